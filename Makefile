# The front door: `make test` runs everything, `make run` builds and starts the binary.
.PHONY: test lint run postgres bench

test: postgres lint
	cargo test --workspace --locked

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

run:
	cargo run --release --locked -p flowyte-server -- serve

# The tests start a PostgreSQL of their own in a temporary folder; they need its server programs only.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || tools/install-postgres

# One decision beside one SHA-256 in the same run. Sizes may be given: make bench SIZES="1000 1000000"
bench:
	cargo bench --locked -p flowyte-server --bench decision -- $(SIZES)
