"""Claims: they live as long as the process that took them, or as long as it renews them elsewhere."""

import errno
import os
import socket
import subprocess
import time

import pytest

from ddlight.core import claims
from ddlight.core.claims import Claim
from ddlight.core.errors import DataError


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


def write(claim, text, age=0.0):
    claim.path.write_text(text)
    os.utime(claim.path, (time.time() - age, time.time() - age))


def test_a_claim_of_another_process_here_lives_as_long_as_the_process(tmp_path):
    claim = Claim(tmp_path / "task.claim")
    process = subprocess.Popen(["sleep", "60"])
    try:
        write(claim, f"{socket.gethostname()} {process.pid} {claims.born(process.pid)}", age=1000)
        assert not claim.take()  # alive, however long it takes
        process.kill()
        wait_until(lambda: not claims.born(process.pid))
        assert claim.take()  # a zombie works no more
    finally:
        process.kill()
        process.wait()


def test_a_claim_of_a_dead_process_is_free(tmp_path):
    claim = Claim(tmp_path / "task.claim")
    process = subprocess.Popen(["true"])
    process.wait()
    for text in (f"{socket.gethostname()} {process.pid} 123", f"{socket.gethostname()} {process.pid}"):
        write(claim, text)
        assert claim.take()


def test_a_claim_of_a_dead_process_whose_number_was_given_again_is_free(tmp_path):
    claim = Claim(tmp_path / "task.claim")
    write(claim, f"{socket.gethostname()} {os.getpid()} 1")
    assert claim.take()


@pytest.mark.parametrize("text", ["elsewhere 1 1", "elsewhere 1", ""])
def test_a_claim_of_another_machine_goes_stale(tmp_path, text):
    claim = Claim(tmp_path / "task.claim")
    write(claim, text, age=claims.CLAIM_SECONDS - 20)
    assert not claim.take()
    write(claim, text, age=claims.CLAIM_SECONDS + 20)
    claim.renew()
    assert not claim.take()
    write(claim, text, age=claims.CLAIM_SECONDS + 20)
    assert claim.take()


@pytest.mark.parametrize(
    "text", ["{host} 12x 5", "{host} 99999999999999999999", "{host}\xff1 1", "{host} 1 2 3", "\0" * 9]
)
def test_a_damaged_claim_goes_stale(tmp_path, text):
    claim, content = Claim(tmp_path / "task.claim"), text.format(host=socket.gethostname()).encode("latin-1")
    write(claim, "")
    claim.path.write_bytes(content)
    assert not claim.take()
    os.utime(claim.path, (0, 0))
    assert claim.take()


def test_a_claim_that_does_not_fit_on_the_disk_is_none(tmp_path, monkeypatch):
    claim = Claim(tmp_path / "task.claim")

    def full(pid):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(claims, "born", full)
        with pytest.raises(DataError, match="disk is full"):
            claim.take()
    assert claim.take()


def test_a_claim_that_was_lost_is_not_brought_back_by_renewing(tmp_path):
    claim = Claim(tmp_path / "task.claim")
    claim.renew()
    assert claim.take()
