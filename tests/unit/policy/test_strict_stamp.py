"""What lets a verb that acts pass without the schema library, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import PolicyError
from ccfailover.policy import stamp
from ccfailover.policy.blocks import schemas_text
from ccfailover.policy.load import load, load_quick
from ccfailover.policy.read import read
from tests.unit.policy.conftest import SmallKinds


class Place:
    """A policy file, a cache of its own, and kinds that count how often a schema was asked for."""

    def __init__(self, folder: Path, text: str, kinds: SmallKinds, now: int) -> None:
        self.path = folder / "policy.yaml"
        self.path.write_text(text)
        self.environ = {"XDG_CACHE_HOME": str(folder / "cache")}
        self.valid = folder / "cache" / "ccfailover" / "valid"
        self.kinds, self.now = kinds, now

    def load(self) -> str:
        return load(str(self.path), self.kinds, now=self.now, environ=self.environ).name

    def key(self) -> str:
        document, problems = read(str(self.path))
        assert document is not None and not problems
        schemas = schemas_text(document.data, self.kinds)
        assert schemas is not None
        found = stamp.strict(document.sha256, schemas)
        assert found is not None
        return found

    def is_stamped(self) -> bool:
        return stamp.is_stamped(self.key(), self.environ)


@pytest.fixture
def place(tmp_path: Path, right: str, kinds: SmallKinds, now: int) -> Place:
    return Place(tmp_path, right, kinds, now)


WRONG = ("home_down: callback", "home_down: callback\n    priority: high")
"""What only the schema finds."""


def test_a_valid_policy_is_stamped_and_an_invalid_one_is_not(place: Place) -> None:
    """The first load leaves a stamp, private to its owner; a broken policy never gets one."""
    assert not place.is_stamped()
    assert place.load() == "lender"
    assert place.is_stamped()
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in place.valid.iterdir())
    before = sorted(place.valid.iterdir())
    place.path.write_text(place.path.read_text().replace(*WRONG, 1))
    for _ in range(2):
        with pytest.raises(PolicyError, match="priority"):
            place.load()
    assert sorted(place.valid.iterdir()) == before


def test_what_check_validated_need_not_be_again(place: Place) -> None:
    """A full validation by `status` or `check` leaves the strict stamp, too; reading a stamped
    policy does not: nobody looked."""
    load_quick(str(place.path), place.kinds, now=place.now, environ=place.environ)
    assert place.is_stamped()
    (place.valid / place.key()).unlink()
    load_quick(str(place.path), place.kinds, now=place.now, environ=place.environ)
    assert not place.is_stamped()


def test_a_stamped_policy_needs_no_schema_library(place: Place) -> None:
    """In a process of its own: no jsonschema, CEL or calendar the second time, all the first."""
    program = (
        "import sys, json\n"
        "from ccfailover.policy.load import load\n"
        "from tests.unit.policy.conftest import SmallKinds\n"
        f"load({str(place.path)!r}, SmallKinds(), now={place.now}, environ={place.environ!r})\n"
        "print(*sorted({'jsonschema', 'opening_hours', 'cel_expr_python'} & set(sys.modules)))\n"
    )
    said = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                           timeout=60, check=True).stdout.split() for _ in range(2)]
    assert said == [["cel_expr_python", "jsonschema", "opening_hours"], []]


@pytest.mark.parametrize(("old", "new", "words"), [
    ("backups: [acme]", "backups: [acma]", "acma"),
    ("normal: {hq: 100}", "normal: {hq: 90}", "sum to 90"),
    ("    home_down: callback\n", "", "home_down"),
], ids=["name", "shares", "rule"])
def test_names_and_rules_are_looked_at_in_spite_of_a_stamp(
    old: str, new: str, words: str, place: Place,
) -> None:
    """A stamp that lies is believed in nothing that needs no library: the policy is refused."""
    text = place.path.read_text().replace("    home_down: callback\n",
                                          "    home_down: callback\n    normal: {hq: 100}\n", 1)
    if not new:
        text = text.replace("outsource: allowed", "outsource: never", 1)
    assert old in text
    place.path.write_text(text.replace(old, new, 1))
    assert stamp.put(place.key(), place.environ)
    assert place.is_stamped()
    with pytest.raises(PolicyError) as refused:
        place.load()
    assert any(words in problem.message for problem in refused.value.problems)


class OtherKinds(SmallKinds):
    """The same names; the switch wants a time zone from this version on."""

    def provider_schema(self, kind: str) -> Mapping[str, object]:
        found: dict[str, Any] = dict(super().provider_schema(kind))
        return {**found, "required": ["zone"]} if kind == "switch" else found


def test_a_kind_that_asks_for_more_voids_the_stamp(place: Place) -> None:
    """What was valid for one version of a kind is validated for the next."""
    place.load()
    place.kinds = OtherKinds()
    assert not place.is_stamped()
    with pytest.raises(PolicyError, match="zone"):
        place.load()


def test_a_kind_that_is_gone_has_no_stamp(tmp_path: Path) -> None:
    """Nothing can be said of a policy whose kinds are not installed."""
    from ccfailover.wiring.kinds import Schemas

    for kind, known in (("http", True), ("sqs", True), ("gone", False)):
        data = {"providers": {"edge": {"kind": kind}}}
        assert (schemas_text(data, Schemas()) is not None) is known
    for data in ({"providers": {"edge": {}}}, {"runbooks": {"x": {"before": ["gone"]}}},
                 {"sites": {"hq": {"probes": [{"kind": "gone"}]}}}):
        assert schemas_text(data, Schemas()) is None


def installed_as(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(folder)])


def test_an_upgrade_voids_the_stamp(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another version of any distribution is another key; without knowing the validator's
    versions there is no key at all."""
    folder = tmp_path / "site-packages"
    for name in ("jsonschema-4.26.0", "cel_expr_python-0.1.3", "opening_hours_py-2.1.4",
                 "PyYAML-6.0.3"):
        (folder / f"{name}.dist-info").mkdir(parents=True)
    with monkeypatch.context() as patch:
        installed_as(patch, folder)
        first = stamp.strict("0" * 64, "{}")
        assert first is not None
        assert stamp.strict("0" * 64, "{}") == first
        assert stamp.strict("1" * 64, "{}") != first
        (folder / "jsonschema-4.26.0.dist-info").rename(folder / "jsonschema-4.27.0.dist-info")
        second = stamp.strict("0" * 64, "{}")
        assert second is not None and second != first
        (folder / "a_kind_of_ours-1.0.dist-info").mkdir()
        assert stamp.strict("0" * 64, "{}") not in (None, second)
        (folder / "jsonschema-4.27.0.dist-info").rmdir()
        assert stamp.strict("0" * 64, "{}") is None


def test_an_edit_of_the_validating_code_voids_the_stamp(tmp_path: Path) -> None:
    """In a copy of the package: a touched module of `policy/` is another key."""
    import shutil

    import ccfailover

    root = Path(ccfailover.__file__).parent
    shutil.copytree(root, tmp_path / "ccfailover",
                    ignore=shutil.ignore_patterns("__pycache__", "simulation"))
    program = "from ccfailover.policy import stamp; print(stamp.strict('0' * 64, '{}'))"

    def key() -> str:
        return subprocess.run([sys.executable, "-B", "-c", program], capture_output=True,
                              text=True, timeout=60, check=True, cwd=tmp_path,
                              env={**os.environ, "PYTHONPATH": str(tmp_path)}).stdout.strip()

    first = key()
    assert len(first) == 64
    assert key() == first
    rules = tmp_path / "ccfailover" / "policy" / "rules.py"
    rules.write_text(rules.read_text() + "\n")
    assert key() != first


@pytest.mark.parametrize("forge", ["others_may_write", "another_owner", "link", "group_reads"])
def test_a_stamp_that_others_could_have_forged_is_refused(forge: str, place: Place) -> None:
    """Somebody else's stamp for a broken policy does not let it pass."""
    place.path.write_text(place.path.read_text().replace(*WRONG, 1))
    key = place.key()
    assert stamp.put(key, place.environ)
    assert place.load() == "lender", "the forgery does not even work unguarded: no test"
    made = place.valid / key
    if forge == "others_may_write":
        place.valid.chmod(0o777)
    elif forge == "another_owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(made, 12345, 12345)
    elif forge == "link":
        made.rename(place.valid.parent / "elsewhere")
        made.symlink_to(place.valid.parent / "elsewhere")
    else:
        made.chmod(0o640)
    with pytest.raises(PolicyError, match="priority"):
        place.load()


def test_without_surroundings_everything_is_validated(
    place: Place, swapped: Callable[[str, str], str],
) -> None:
    """`validate` and everybody who gives no environment asks for no stamp and leaves none."""
    load(str(place.path), place.kinds, now=place.now)
    assert not place.valid.exists()
