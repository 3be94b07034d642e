"""Drives a real Chromium without a package: the DevTools protocol over two pipes, one JSON between zero bytes."""
import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# root may not use its sandbox; the camera is the moving picture that Chromium draws for tests
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe",
           "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]


class Browser:
    """with Browser(folder, width, height) as browser: browser.open(url) ... complaints: what its console said as errors or warnings."""

    def __init__(self, folder, width=1440, height=900, language="en"):
        self.folder, self.size, self.language = folder, (width, height), language
        self.complaints, self.number, self.answers, self.events = [], 0, {}, queue.Queue()
        self.news = threading.Condition()

    def __enter__(self):
        ours_out, theirs_in = os.pipe()[::-1]
        theirs_out, ours_in = os.pipe()[::-1]
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={self.folder}/profile", f"--lang={self.language}",
                   f"--accept-lang={self.language}", "about:blank"]

        def hand_over():
            saved = os.dup(theirs_in), os.dup(theirs_out)                   # one of them may be 3 or 4 itself
            os.dup2(saved[0], 3)
            os.dup2(saved[1], 4)
        self.process = subprocess.Popen(command, preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.out, self.inward = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb", 0)
        threading.Thread(target=self.listen, daemon=True).start()

        # One tab, of this size.
        target = next(one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for name in ("Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"):
            self.ask(name)
        self.resize(*self.size)
        return self

    def __exit__(self, *_):
        self.send("Browser.close")
        self.process.wait(20)
        self.out.close()

    def listen(self):
        data = b""
        while piece := self.inward.read(1 << 16):
            *whole, data = (data + piece).split(b"\0")
            for message in map(json.loads, whole):
                self.hear(message)
        self.inward.close()

    def hear(self, message):
        if "id" in message:
            with self.news:
                self.answers[message["id"]] = message
                self.news.notify_all()
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(message["params"]["exceptionDetails"])
        elif message["method"] == "Runtime.consoleAPICalled" and message["params"]["type"] in ("error", "warning", "assert"):
            self.complaints.append(message["params"]["args"])
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] in ("error", "warning"):
            self.complaints.append(message["params"]["entry"])

    def send(self, method, session=None, **words):
        """-> what Chromium answers."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": words} | ({"sessionId": session} if session else {})
        number = self.number
        self.out.write(json.dumps(message).encode() + b"\0")
        with self.news:
            assert self.news.wait_for(lambda: number in self.answers, 60), f"{method}: no answer"
            answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def ask(self, method, **words):
        return self.send(method, self.session, **words)

    def resize(self, width, height):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, url):
        self.ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """-> the value of a JavaScript expression, also of a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script, seconds=30):
        """Until an expression is true. -> its value"""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return value

    def choose_file(self, selector, path):
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
