"""The restorer's window in a real browser, as a visitor uses it: under three minutes, without a network.

Debian's Chromium and its driver: ``apt-get install chromium chromium-driver``. ``make test-browser PYTEST=-s`` prints
the seconds that a visitor waits.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import write_film, write_png

from ipfvr.data.sample import portrait

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
LACKING = [name for name in ("gradio", "selenium") if find_spec(name) is None]
LACKING += [name for name, path in (("chromium", CHROME), ("chromedriver", DRIVER)) if path is None]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(LACKING), reason=f"not here: {', '.join(LACKING)}"),
]

FRAMES, SIZE = 80, (854, 480)  # long enough that a job can be stopped before it is done
CHROME_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
]


def wait(until: Callable[[], Any], seconds: float = 90) -> Any:
    """What ``until`` gives, once it is true."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if found := until():
                return found
        except Exception as error:  # an element that is not there yet, or is being replaced
            last = error
        time.sleep(0.05)
    raise AssertionError(f"it did not come within {seconds} s: {last}")


class Outside:
    """A proxy that counts who wants to reach the world, and answers nobody."""

    def __init__(self) -> None:
        self.wanted: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                self.wanted.append(connection.recv(200))


class Server:
    """``python -m ipfvr.app`` on a port that is free.

    Args:
        folder: where its files lie.
        outside: the only way to the world that it is given.
    """

    def __init__(self, folder: Path, outside: Outside) -> None:
        self.folder, self.outside = folder, outside
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), self.outside.address)
        command = [
            sys.executable,
            "-m",
            "ipfvr.app",
            "--port",
            str(self.port),
            "--folder",
            str(self.folder),
            "--limit",
            "20",
            "learn.always=false",
        ]
        self.process = subprocess.Popen(command, env={**os.environ, **proxies, "no_proxy": "127.0.0.1"})
        wait(self.answers, 60)

    def answers(self) -> bool:
        """Whether it is there."""
        assert self.process.poll() is None
        return bool(urllib.request.urlopen(self.address, timeout=5).read())

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        self.process.send_signal(how)
        self.process.wait(20)


# Chromium, where root runs it, raises its own priority above everything else: the app and its jobs then stand still for
# minutes while a page is drawn. So the driver starts without the right to do so (PR_CAPBSET_DROP, CAP_SYS_NICE).
AT_NORMAL_PRIORITY = """#!{python}
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)
os.execv({driver!r}, [{driver!r}, *sys.argv[1:]])
"""


class Visitor:
    """A browser of somebody's own, with no page yet.

    Args:
        folder: where the script that starts its driver may lie.
    """

    def __init__(self, folder: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROME
        for option in CHROME_OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        starter = folder / "chromedriver"
        starter.write_text(AT_NORMAL_PRIORITY.format(python=sys.executable, driver=DRIVER))
        starter.chmod(0o755)
        with sockets_time_out(120):  # Selenium waits for ever otherwise if the browser hangs
            self.driver = webdriver.Chrome(options=options, service=Service(str(starter)))

    def open(self, address: str) -> None:
        """Open the window."""
        self.driver.get(address)
        wait(lambda: self.one("#films input[type=file]"))

    def one(self, selector: str) -> Any:
        """The element."""
        return self.driver.find_element("css selector", selector)

    def drop(self, place: str, file: Path) -> None:
        """Drop a file."""
        self.one(f"#{place} input[type=file]").send_keys(str(file))

    def says(self, place: str, text: str, seconds: float = 90) -> str:
        """Wait until it stands there."""
        return wait(lambda: (t := self.one(f"#{place}").text) and text in t and t, seconds)

    def sees(self, selector: str, seconds: float = 90) -> Any:
        """Wait until it is to be seen."""
        return wait(lambda: (e := self.one(selector)).is_displayed() and e, seconds)

    def click(self, place: str) -> None:
        """Press a button."""
        element = self.sees(f"#{place}")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        wait(lambda: element.click() is None)

    def frame(self) -> int:
        """The frame at which the slider stands."""
        return int(self.one("#frame input[type=range]").get_attribute("value"))

    def foreign(self) -> list[str]:
        """Addresses elsewhere that the browser was asked for."""
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
        assert urls, "the log is read"
        return [url for url in urls if not url.startswith(("data:", "blob:", "http://127.0.0.1:"))]


@contextmanager
def sockets_time_out(seconds: float) -> Iterator[None]:
    """Whoever makes a connection in the block gives it this time limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def visiting(address: str, folder: Path) -> Iterator[Visitor]:
    """A browser, which is closed."""
    visitor = Visitor(folder)
    try:
        visitor.open(address)
        yield visitor
    finally:
        visitor.driver.quit()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds of the block."""
    began = time.monotonic()
    yield
    print(f"\n{what}: {time.monotonic() - began:.1f} s", end="")


def old_film(folder: Path) -> Path:
    """A blurred 480p film of the sample's portrait with sound, in which the camera moves."""
    side = SIZE[1]
    face = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
    face = cv2.resize(cv2.GaussianBlur(face, (0, 0), 2), (side, side))
    images = []
    for n in range(FRAMES):
        image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        left = 150 + n
        image[:, left : left + side] = face
        images.append(image)
    return write_film(folder / "old film.mp4", images)


def test_a_visitor_restores_a_film(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    programs = tmp_path_factory.mktemp("programs")
    film, photo, text = old_film(tmp_path), tmp_path / "anna.png", tmp_path / "no film.mp4"
    write_png(photo, portrait())
    text.write_text("this is no film\n" * 9)
    outside = Outside()
    server = Server(tmp_path / "work", outside)
    anna = Visitor(programs)
    try:
        with timed("from the command to an open window"):
            server.start()
            anna.open(server.address)
        # What is no film is refused in one sentence, next to where it was dropped.
        anna.drop("films", text)
        assert "no film.mp4" in anna.says("films-said", "not a video").replace("no_film", "no film")
        anna.driver.refresh()
        wait(lambda: anna.one("#films input[type=file]"))
        with timed("who is in the film"):
            anna.drop("films", film)
            anna.sees("#person-1")
        assert f"old_film.mp4: 854 x 480, {FRAMES} frames" in anna.says("films-said", "with sound")
        anna.driver.refresh()
        anna.sees("#person-1")  # a window that is opened again shows what was dropped
        anna.drop("pictures", photo)
        anna.says("pictures-said", "shows person 1")
        name = anna.one("#name-1 input")
        name.clear()
        name.send_keys("../../x Anna", Keys.TAB)
        anna.says("timeline", "Anna")
        anna.driver.refresh()
        anna.says("timeline", "Anna")
        assert anna.one("#name-1 input").get_attribute("value") == "../../x Anna", "names outlive the window"

        with timed("the first preview"):
            anna.click("preview")
            slider = anna.sees("#whole .slider")
        bar = anna.one("#whole .bar")
        before = bar.get_attribute("style")
        slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert slider.get_attribute("value") == "47"
        assert bar.get_attribute("style") != before
        assert anna.sees("#face .slider")
        shown = anna.one("#whole img.version:not(.shown), #whole img.version ~ img").get_attribute("src")
        assert shown != anna.one("#whole img").get_attribute("src"), "before and after differ"
        with timed("another preview, of a frame chosen by the keyboard"):
            anna.one("#frame input[type=range]").send_keys(Keys.ARROW_RIGHT)
            anna.click("preview")
            wait(lambda: anna.one("#whole img.version ~ img").get_attribute("src") != shown)
        line = anna.one("#timeline .bar")
        ActionChains(anna.driver).move_to_element_with_offset(line, -line.size["width"] // 4, 0).click().perform()
        moved = wait(lambda: abs((frame := anna.frame()) - FRAMES // 4) < 2 and frame)
        wait(lambda: f"{round(100 * (moved + 0.5) / FRAMES, 2):g}%" in anna.one("#timeline em").get_attribute("style"))

        anna.click("start")
        anna.sees("#job-1")
        wait(lambda: "restoring" in anna.one("#job-1").text or "finding" in anna.one("#job-1").text)
        anna.click("stop-1")
        anna.says("job-1", "stopped")
        anna.click("resume-1")
        wait(lambda: "running" in anna.one("#job-1").text)
        # The server is killed, the job goes on; another visitor comes, and knows nothing of the first one's film.
        server.end(signal.SIGKILL)
        server.start()
        with visiting(server.address, programs) as ben:
            assert not ben.driver.find_elements("css selector", "#person-1")
            ben.drop("films", photo)
            ben.sees("#person-1")
            assert "anna.png: 512 x 512" in ben.one("#films-said").text
            anna.open(server.address)
            tab = next(t for t in anna.driver.find_elements("css selector", "button[role=tab]") if "Jobs" in t.text)
            tab.click()
            anna.says("job-1", "done")
            assert not ben.foreign()
        anna.click("show-1")
        players = wait(lambda: len(v := anna.driver.find_elements("css selector", "#players video")) == 2 and v)
        anna.driver.execute_script("arguments[0].play()", players[1])
        for player in players:  # the source follows the result
            wait(lambda p=player: float(p.get_property("currentTime")) > 0.5, 20)
            assert not player.get_property("error")
        assert players[1].get_property("duration") == pytest.approx(FRAMES / 25, abs=0.1)
        assert "old_film_restored.mp4" in anna.one("#files").text.replace("\n", "")
        assert not anna.foreign()
        # The result lies where the job's folder is, whatever the person was called.
        (result,) = (tmp_path / "work").glob("jobs/*/old_film_restored.mp4")
        report = json.loads(result.with_suffix(".json").read_text())
        assert list(report["people"]) == ["x Anna"]
        assert report["sound"] == "copied"
        assert {p.name for p in tmp_path.iterdir()} == {film.name, photo.name, text.name, "work"}
        anna.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        )
        assert anna.driver.execute_script("return document.documentElement.scrollWidth") == 400
    finally:
        anna.driver.quit()
        server.end()
    assert not outside.wanted
