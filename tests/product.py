"""A server of its own for a test, started from the binary as an operator starts it."""

import http.cookiejar
import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request

BINARY = os.environ.get("FLOWYTE", str(pathlib.Path(__file__).resolve().parents[1] / "target/debug/flowyte"))


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Product:
    def __init__(self, folder):
        port, operations = free_port(), free_port()
        self.url = f"http://localhost:{port}"
        self.api = f"{self.url}/api/v1"
        self.folder = pathlib.Path(folder)
        address = ["--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{operations}"]
        # Fuzzing is a flood of invalid things; the limits against it have tests of their own.
        quiet = ["--log-level", "error", "--unauthenticated-rpm", "1000000", "--organization-rpm", "1000000", "--login-failures-per-address", "1000000"]
        self.process = subprocess.Popen([BINARY, "serve", "--data", folder, *address, *quiet], stdout=subprocess.DEVNULL)
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        for _ in range(200):
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{operations}/health/ready") and None
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    def call(self, path, body=None):
        request = urllib.request.Request(self.api + path, data=None if body is None else json.dumps(body).encode())
        request.add_header("origin", self.url)
        request.add_header("content-type", "application/json")
        with self.opener.open(request) as answer:
            return json.load(answer)["data"]

    def set_up(self):
        """The first organization; a key with every scope that a key may hold."""
        token = (self.folder / "setup-token").read_text().strip()
        # Nobody that the contract's examples speak of.
        person = {"name": "Grace", "email": "grace@conformance.example", "password": "seven-lanterns-over-a-quiet-harbour"}
        self.call("/auth/setup", {"token": token, "organizationName": "Example", **person})
        scopes = [it["scope"] for it in self.call("/scopes") if "secret_key" in it["holders"]]
        return self.call("/api-keys", {"name": "all", "scopes": scopes})["secret"]

    def invite(self, name):
        """Another member of the first organization."""
        token = self.call("/invites", {"email": f"{name}@conformance.example".lower(), "role": "viewer"})["token"]
        person = {"token": token, "name": name, "password": "seven-lanterns-over-a-quiet-harbour"}
        joins = urllib.request.Request(f"{self.api}/auth/invites/accept", data=json.dumps(person).encode())
        joins.add_header("content-type", "application/json")
        urllib.request.urlopen(joins).close()  # Without the jar, which is the owner's.
        return next(it["id"] for it in self.call("/members") if it["name"] == name)

    def knows(self, fields):
        """Whether these header fields, as curl takes them, still name somebody."""
        named = dict(it.split(": ", 1) for it in fields[1::2])
        try:
            return urllib.request.urlopen(urllib.request.Request(f"{self.api}/whoami", headers=named)).status == 200
        except urllib.error.HTTPError as refusal:
            with sqlite3.connect(self.folder / "flowyte.db") as truth:
                done = truth.execute("SELECT action, actor_kind, target_name, details FROM audit_events ORDER BY at DESC LIMIT 40").fetchall()
            print(f"the caller of this run was lost: {refusal.read().decode()}", *done, sep="\n", flush=True)
            return False
