"""Schemathesis against the binary: bodies, parameters and methods made from the contract, valid and not. Nothing may be answered with
a 500, with a status or a body that the contract does not declare. First as a secret key with every scope, then as an owner's session.

Usage: tools/python tests/conformance/requirements.txt tests/conformance/run.py [SECONDS]   (60 for each caller)
"""

import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from product import Product  # noqa: E402

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# They end the session that asks, which the rest still needs: what is listed is asked for by its id as well.
NOT_ASKED = ["logout", "endSession", "switchOrganization"]


def main():
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    with tempfile.TemporaryDirectory() as folder:
        product = Product(folder)
        try:
            key = product.set_up()
            agent = product.call("/agents", {"name": "Front desk"})["id"]
            product.call(f"/agents/{agent}/publish", {})
            contract = product.folder / "contract.json"
            with urllib.request.urlopen(f"{product.api}/openapi.json") as answer:
                contract.write_bytes(answer.read())
            # An agent that exists, so that what lies behind its id is reached; other ids are made up, or taken from answers. Members
            # that exist, for the same reason, and since an owner who made somebody else an owner may remove itself.
            settings = product.folder / "schemathesis.toml"
            settings.write_text(
                f'hooks = "{pathlib.Path(__file__).with_name("formats.py")}"\n'
                f'[parameters]\n"path.agentId" = "{agent}"\n'
                + "".join(
                    f'[[operations]]\ninclude-operation-id = "{operation}"\nparameters = {{ "path.id" = "{product.invite(operation)}" }}\n'
                    for operation in ("updateMember", "removeMember", "createRecoveryLink")
                )
            )
            cookie = "; ".join(f"{it.name}={it.value}" for it in product.jar)
            callers = {
                "a secret key": ["-H", f"Authorization: Bearer {key}"],
                "a session": ["-H", f"Cookie: {cookie}", "-H", f"Origin: {product.url}"],
            }
            failed = []
            for name, fields in callers.items():
                good = ask(product, settings, contract, name, fields, seconds)
                # What was fuzzed with must still be good, or the rest was refused at the door.
                if not good or not product.knows(fields):
                    failed.append(name)
            if product.process.poll() is not None:
                failed.append(f"the server, which ended with {product.process.returncode}")
        finally:
            product.process.send_signal(signal.SIGKILL)
            product.process.wait()
    if failed:
        raise SystemExit(f"not as the contract says: {', '.join(failed)}")


def ask(product, settings, contract, name, fields, seconds):
    print(f"as {name}, for at most {seconds} seconds", flush=True)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run", str(contract), "-u", product.api, *fields]
    command += ["--max-time", seconds, "--phases", "coverage,fuzzing", "--checks", CHECKS, "--continue-on-failure", "--no-color", "--warnings", "off"]
    command += [part for one in NOT_ASKED for part in ("--exclude-operation-id", one)]
    done = subprocess.run(command, cwd=product.folder, capture_output=True, text=True)
    print(re.sub(r"\n{3,}", "\n\n", done.stdout[-6000:] if done.returncode else done.stdout[-900:]), done.stderr[-2000:], flush=True)
    return done.returncode == 0


main()
