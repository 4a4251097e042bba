from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROME_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def measured():
    """A real evaluation on digits: its document and its convergence."""
    import torch

    from kdstats.teacher.evaluate import evaluate_da

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = evaluate_da(["cutmix", "mixup", "cutmix_pick_teacher"], tol=0.05)
    finally:
        torch.set_num_threads(before)
    return found.to_dict(), found.convergence


@pytest.fixture
def document(measured):
    return copy.deepcopy(measured[0])


@pytest.fixture
def convergence(measured):
    return copy.deepcopy(measured[1])


@pytest.fixture
def browser(tmp_path) -> Iterator[object]:
    """Headless Chromium with a fresh profile."""
    driver, program = Path("/usr/bin/chromedriver"), Path("/usr/bin/chromium")
    if not (driver.is_file() and program.is_file()):
        if os.environ.get("KDSTATS_REQUIRE_BROWSER") == "1":
            pytest.fail("KDSTATS_REQUIRE_BROWSER=1, but there is no chromium with chromedriver in /usr/bin")
        pytest.skip("needs chromium and chromedriver in /usr/bin (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    for option in (*CHROME_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(str(driver)))
    yield found
    found.quit()
