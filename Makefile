# The front door: `make test` runs everything, `make run` builds and starts the server.
.PHONY: test lint run bench fuzz compiler postgres

test: compiler postgres lint
	cargo test --workspace --locked

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Settings are variables: FLOWYTE_LISTEN=127.0.0.1:9000 make run
run: compiler
	cargo run --release --locked -p flowyte-server -- serve

# One decision beside one SHA-256 in the same run. Sizes may be given: make bench SIZES="1000 1000000"
bench: compiler
	cargo bench --locked -p flowyte-server --bench decision -- $(SIZES)

# Each target for a minute, or SECONDS_EACH.
fuzz: compiler
	tools/fuzz

# SQLite and the cryptography are C; Rust links with cc.
compiler:
	@command -v cargo >/dev/null || { echo "Rust 1.95 is needed: https://rustup.rs" >&2; exit 1; }
	@tools/install cc build-essential

# The tests start a PostgreSQL of their own in a temporary folder; they need its server programs, pgrep to hang
# it, and what the README uses.
postgres:
	@tools/install '/usr/lib/postgresql/*/bin/initdb' postgresql-15
	@tools/install pgrep procps
	@tools/install curl curl
	@tools/install python3 python3
