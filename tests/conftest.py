"""What tests of whole runs share: a tiny training run in this process, in folders of its own."""

import multiprocessing

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder with its own cache of condensed sets."""
    monkeypatch.setenv("DDLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fit(home):
    """Fit a regime on a data module on the CPU, and give the Trainer back: fit(model, data, run="a", ...)."""
    import torch

    from ddlight.trainer import Trainer

    torch.set_num_threads(1)

    def run_it(model, data, run="run", callbacks=(), test=True, **options):
        options = {"accelerator": "cpu", "devices": 1, "progress": False, "resume": False, **options}
        trainer = Trainer(run=str(home / run), callbacks=list(callbacks), **options)
        if test:
            trainer.fit_run(model, data)
        else:
            trainer.fit(model, datamodule=data)
        return trainer

    return run_it


@pytest.fixture(scope="session")
def processes():
    """A multiprocessing context whose processes begin with the heavy libraries imported: for ranks and signals."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ddlight.training", "sklearn.datasets"])
    return context


@pytest.fixture
def command(home, monkeypatch, capsys):
    """Run a command line in this process, as the shell would: command("fit", ...) gives code, out and err.

    A traceback would show as an exception of the test itself.
    """
    import logging
    from types import SimpleNamespace

    import torch

    from ddlight.cli import main

    torch.set_num_threads(1)
    monkeypatch.delenv("DDLIGHT_DEBUG", raising=False)

    def call(*words):
        logging.getLogger("ddlight").handlers.clear()  # the handler of an earlier test writes to what is closed by now
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # how argparse ends --help
            code = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    yield call
    logging.getLogger("ddlight").handlers.clear()
    logging.getLogger("ddlight").propagate = True
