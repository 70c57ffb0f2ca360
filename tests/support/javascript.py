"""Modules of web/ run outside of the host's page: in Node where there is one, else in Chromium."""

import base64
import json
import shutil
import subprocess

from .browser import FLAGS, find_chromium, why_no_browser
from .comfyui import ROOT


def why_no_javascript() -> str | None:
    return None if shutil.which("node") else why_no_browser()


def call(module: str, function: str, calls: list[list]) -> list:
    """What ``function`` of web/``module``, which imports nothing, gives for each list of arguments.

    A call that throws gives its message as {"error": message}.
    """
    body = (
        f"calls.map(values => {{ try {{ return loaded.{function}(...values) }} "
        "catch (error) { return { error: error.message } } })"
    )
    path = ROOT / "web" / module
    if shutil.which("node"):
        program = (
            f"import * as loaded from {json.dumps(path.as_uri())}\n"
            "import { readFileSync } from 'node:fs'\n"
            f"const calls = JSON.parse(readFileSync(0))\nconsole.log(JSON.stringify({body}))"
        )
        command = ["node", "--no-warnings", "--experimental-default-type=module", "--input-type=module", "-e", program]
        done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    from playwright.sync_api import sync_playwright

    source = "data:text/javascript;base64," + base64.b64encode(path.read_bytes()).decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            program = f"async ([source, calls]) => {{ const loaded = await import(source); return {body} }}"
            return browser.new_page().evaluate(program, [source, calls])
        finally:
            browser.close()
