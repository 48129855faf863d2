"""One exported model for the tests of the server."""

import pytest

from exported_toys import toy_files, toy_predictor


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A model of four tags from an exported folder, and pictures."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    from onecycle.deploy.bundle import export_bundle
    from onecycle.deploy.card import Card
    from onecycle.deploy.portable.predict import Model

    folder = tmp_path_factory.mktemp("served")
    files = toy_files(folder)
    predictor = toy_predictor(is_multi=True, calibrated=True)
    made = export_bundle(predictor, folder / "model", files, Card(name="toy"), archive=False)
    return Model(made.folder), files
