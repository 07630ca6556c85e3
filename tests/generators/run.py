"""What programs make of the OpenAPI document that the binary serves, byte for byte: validators accept it, and generators write clients that
compile and list agents.

Usage: cd tests/generators && npm ci
       tools/node tools/python tests/generators/requirements.txt tests/generators/run.py         (a minute)
       tools/python tests/generators/requirements-java.txt tests/generators/run.py --java        (openapi-generator: several minutes)
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from product import Product  # noqa: E402

LISTS, NODE = HERE / "lists", HERE / "node_modules/.bin"
AGENTS = ["Front desk", "Night desk"]


def run(command, folder, **more):
    """Runs a program; what it printed matters only when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        print(done.stdout[-8000:], flush=True)
        raise SystemExit(f"{' '.join(map(str, command[:4]))} … ended with {done.returncode}")
    return done.stdout


def passed(what):
    print(what, flush=True)


def validators(folder, contract):
    run([sys.executable, "-m", "openapi_spec_validator", contract], folder)
    passed("openapi-spec-validator accepts the document")
    run([NODE / "spectral", "lint", contract, "--ruleset", HERE / ".spectral.yaml", "--fail-severity", "warn"], folder)
    passed("Spectral finds no error and no warning")
    alone = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    run([NODE / "redocly", "lint", contract, "--config", HERE / "redocly.yaml"], folder, env=alone)
    passed("Redocly finds no error")


def python_client(folder, contract, base, key):
    settings = folder / "openapi-python-client.yaml"
    settings.write_text("package_name_override: generated\npost_hooks: []\n")
    made = folder / "openapi-python-client"
    said = run([sys.executable, "-m", "openapi_python_client", "generate", "--path", contract, "--output-path", made, "--config", settings], folder)
    if "Warning" in said or "Unable" in said:
        raise SystemExit(said)
    run([sys.executable, LISTS / "openapi_python_client.py", base, key, *AGENTS], made, env={**os.environ, "PYTHONPATH": with_path(made)})
    passed("openapi-python-client: every module imports, and agents are listed")


def with_path(first):
    return os.pathsep.join([str(first), os.environ.get("PYTHONPATH", "")])


def typescript(made, program, base, key):
    """Type-checks, compiles and runs a program that lies in `lists`, beside what was generated."""
    if not (made / "node_modules").exists():
        (made / "node_modules").symlink_to(HERE / "node_modules")
    shutil.copy(LISTS / f"{program}.ts", made)
    strict = {"strict": True, "module": "node16", "target": "es2022", "lib": ["es2022", "dom", "dom.iterable"], "types": [], "outDir": "compiled"}
    (made / "tsconfig.json").write_text(json.dumps({"compilerOptions": strict, "files": [f"{program}.ts"]}))
    run([NODE / "tsc"], made)
    run(["node", f"compiled/{program}.js", base, key, *AGENTS], made)
    passed(f"{program}: compiles with every check of TypeScript, and lists agents")


def typescript_clients(folder, contract, base, key):
    made = folder / "typescript"
    run([NODE / "openapi-typescript", contract, "-o", made / "contract.ts"], folder)
    typescript(made, "openapi-typescript", base, key)
    run([NODE / "openapi-ts", "-i", contract, "-o", made / "hey", "-c", "@hey-api/client-fetch", "--no-log-file"], made)
    typescript(made, "hey-api", base, key)


def openapi_generator(folder, contract, base, key):
    generate = [sys.executable, "-c", "import openapi_generator_cli; raise SystemExit(openapi_generator_cli.cli())", "generate", "-i", contract, "--package-name", "generated"]
    made = folder / "python"
    run([*generate, "-g", "python", "-o", made], folder)
    run([sys.executable, LISTS / "openapi_generator.py", base, key, *AGENTS], made, env={**os.environ, "PYTHONPATH": with_path(made)})
    passed("openapi-generator python: every module imports, and agents are listed")
    made = folder / "typescript-fetch"
    run([*generate, "-g", "typescript-fetch", "-o", made], folder)
    typescript(made, "typescript-fetch", base, key)
    made = folder / "rust"
    run([*generate, "-g", "rust", "-o", made], folder)
    (made / "examples").mkdir()
    shutil.copy(LISTS / "rust.rs", made / "examples")
    with open(made / "Cargo.toml", "a") as manifest:
        manifest.write('\n[dev-dependencies]\ntokio = { version = "1", features = ["macros", "rt"] }\n')
    run(["cargo", "run", "--quiet", "--no-default-features", "--features", "rustls", "--example", "rust", "--", base, key, *AGENTS], made)
    passed("openapi-generator rust: compiles, and lists agents")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        product = Product(folder / "data")
        try:
            key = product.set_up()
            for name in AGENTS:
                product.call("/agents", {"name": name})
            contract = folder / "openapi.json"
            with urllib.request.urlopen(f"{product.api}/openapi.json") as answer:
                contract.write_bytes(answer.read())
            if "--java" in sys.argv[1:]:
                openapi_generator(folder, contract, product.api, key)
            else:
                validators(folder, contract)
                python_client(folder, contract, product.api, key)
                typescript_clients(folder, contract, product.api, key)
        finally:
            product.process.send_signal(signal.SIGKILL)
            product.process.wait()


main()
