# The front door: `make test` runs everything, `make run` builds and starts the server.
.PHONY: test plane versions generators torture lint run release web demo screenshots browser bench fuzz compiler postgres faketime proxies

test: compiler postgres faketime proxies browser web lint versions
	cargo test --workspace --locked
	$(MAKE) plane
	cd web/dashboard && ../../tools/node npm test && ../../tools/node npm run e2e
	tools/python tests/conformance/requirements.txt tests/conformance/run.py
	cd tests/clients && ../../tools/node npm ci --no-audit --no-fund
	tools/node tools/python tests/clients/requirements.txt tests/clients/run.py
	cd tests/generators && ../../tools/node npm ci --no-audit --no-fund
	tools/node tools/python tests/generators/requirements.txt tests/generators/run.py

# The plane without the product: it builds, and its server passes what the whole one passes. Both builds share what they have in common;
# at the end the binary is the whole one again, which the other tests use.
PLANE := --locked -p flowyte --no-default-features --features dashboard,postgres
plane: compiler postgres web
	cargo clippy $(PLANE) --all-targets -- -D warnings
	cargo test $(PLANE)
	@$(SIZE) plane --no-default-features --features dashboard,postgres
	cargo test --workspace --locked --no-run --quiet
	@$(SIZE) whole

# How large a build is as the tests make it: the binary without symbols, and the crates that it is made of.
SIZE := size() { name=$$1; shift; strip -o target/stripped target/debug/flowyte && bytes=$$(wc -c < target/stripped) && rm target/stripped; \
	crates=$$(cargo tree --locked -p flowyte "$$@" -e normal --prefix none | sed 's/ (\*)$$//' | sort -u | wc -l); \
	echo "$$name: $$((bytes / 1048576)) MiB, $$crates crates"; }; size

# What the tests use that is not fixed by this repository.
versions: browser postgres tools/node
	@echo "Chromium: $$(chromium --version)"
	@echo "Node: $$(tools/node node --version)"
	@echo "PostgreSQL: $$($$(ls -d /usr/lib/postgresql/*/bin/postgres | sort -V | tail -1) --version)"

# The clients that openapi-generator writes from the served document, for Python, TypeScript and Rust. It needs Java, and takes a few
# minutes; the other generators are part of `make test`.
generators: compiler web
	@tools/install java default-jre-headless
	cargo build --locked -p flowyte
	cd tests/generators && ../../tools/node npm ci --no-audit --no-fund
	tools/node tools/python tests/generators/requirements-java.txt tests/generators/run.py --java

# One minute of everything that hostile callers do at once, with figures: on a machine that does nothing else.
torture: compiler
	FLOWYTE_TORTURE_SECONDS=$(or $(SECONDS_LONG),60) cargo test --profile quick --locked -p flowyte --test binary \
		a_tenant_goes_on_under_everything_at_once -- --nocapture
	FLOWYTE_ISOLATION=full cargo test --profile quick --locked -p flowyte --test binary isolation:: -- --nocapture --test-threads 1

lint: web
	cd web/dashboard && ../../tools/node npm run lint
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --locked -- -D warnings -D clippy::too_many_lines

# Settings are variables: FLOWYTE_LISTEN=127.0.0.1:9000 make run
run: compiler web
	cargo run --profile quick --locked -p flowyte -- serve

# The binary to ship: smaller and a little faster, and longer in the making.
release: compiler web
	cargo build --profile dist --locked -p flowyte
	@ls -l target/dist/flowyte

# The dashboard and the widget, which the binary embeds. Node is brought into .tools where it is missing.
DASHBOARD := $(shell find web/dashboard \( -name node_modules -o -name dist \) -prune -o -type f ! -name contract.d.ts -print)
WIDGET := $(shell find web/widget \( -name node_modules -o -name dist \) -prune -o -type f -print)
web: web/dashboard/dist/index.html web/widget/dist/loader.js.gz
web/widget/dist/loader.js.gz: $(WIDGET) tools/node
	cd web/widget && ../../tools/node npm ci --no-audit --no-fund && ../../tools/node npm run build
	touch crates/flowyte/build.rs
web/dashboard/dist/index.html: $(DASHBOARD) $(wildcard contracts/*.yaml) tools/node
	cd web/dashboard && ../../tools/node npm ci --no-audit --no-fund && ../../tools/node npm run build
	touch crates/flowyte/build.rs

# A shop with the widget, on another port than the API: make demo KEY=flowyte_pk_test_… (a key that lists http://localhost:8090)
demo:
	@tools/node node examples/widget-site/serve.mjs "$(KEY)" "$(or $(API),http://localhost:8080)"

# Every page of the dashboard in light, dark and on a phone, as pictures to look at.
screenshots: compiler browser web
	cargo build --locked -p flowyte
	cd web/dashboard && ../../tools/node npm run screenshots -- ../../target/screenshots

browser:
	@tools/install chromium chromium

# One decision beside one SHA-256, a request beside a bare answer of hyper, one client that writes beside many, one organization
# beside the flood of another, an agent that knows little beside one that knows much, and a new installation beside one with a million of
# everything (HISTORY=100000 for fewer): each in one run.
# Sizes of the table may be given: make bench SIZES="1000 1000000"
bench: compiler web
	cargo bench --locked -p flowyte-verifier --bench decision -- $(SIZES)
	cargo bench --locked -p flowyte --bench door --bench writes --bench floods
	cargo bench --locked -p flowyte-product --bench knowledge
	cargo bench --locked -p flowyte --bench history -- $(HISTORY)

# Each target for a minute, or SECONDS_EACH.
fuzz: compiler
	tools/fuzz

# SQLite and the cryptography are C; Rust links with cc.
compiler:
	@command -v cargo >/dev/null || { echo "Rust 1.95 is needed: https://rustup.rs" >&2; exit 1; }
	@tools/install cc build-essential

# A test sets the clock of the server that it started.
faketime:
	@tools/install '/usr/lib/*/faketime/libfaketimeMT.so.1' faketime

# The tests start a PostgreSQL of their own in a temporary folder; they need its server programs, pgrep to hang
# it, promtool to read the metrics, ip for a network that leads nowhere, and what the README uses.
postgres:
	@tools/install '/usr/lib/postgresql/*/bin/initdb' postgresql-15
	@tools/install pgrep procps
	@tools/install promtool prometheus
	@tools/install curl curl
	@tools/install python3 python3
	@tools/install ip iproute2

# The proxies that docs/guides/operating.md configures, which the tests put in front of the binary.
proxies:
	@tools/install /usr/sbin/nginx nginx-light
	@tools/install /usr/bin/caddy caddy
	@tools/install /usr/sbin/haproxy haproxy
	@tools/install openssl openssl
