# The front door: `make test` runs everything, `make run` builds and starts the binary.
.PHONY: test lint run

test: lint
	cargo test --workspace --locked

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

run:
	cargo run --release --locked -p flowyte-server -- --help
