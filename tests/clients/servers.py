"""Servers for the client tests: started on a free port, ended with the test."""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

START_SECONDS = 60


class Server:
    """A process that writes `listening url=URL` to stderr."""

    def __init__(self, arguments, ready=True):
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        self.log = []
        self.url = None
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        end = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            if self._listening.wait(0.05):
                break
        if self.url is None:
            raise AssertionError(f"does not listen: {''.join(self.log)}")
        if ready:
            self.wait_ready()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening url=(\S+)", line)
            if found:
                self.url = found.group(1)
                self._listening.set()

    def wait_ready(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ended: {''.join(self.log)}")
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5):
                    return
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            time.sleep(0.05)
        raise AssertionError(f"is not ready: {''.join(self.log)}")

    def stop(self):
        """Ends the server as a service manager does; its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        self.process.stderr.close()
        return code


def fable(*flags, model="fable"):
    """`facet serve` with the bundled model, by its name or as a folder."""
    return Server([os.environ["FACET"], "serve", model, "--port", "0", "--backend", "cpu", *flags])


def scripted(script, *flags, ready=True):
    """A server whose answers are `script`: a list of {"after": …, "say": …}."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(script, file)
    return Server([os.environ["SCRIPTED_SERVER"], file.name, *flags], ready=ready)
