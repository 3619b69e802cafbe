"""What is found around a run: facts read from made-up trees, and what each holds against a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Card
from t5panel.monitor.hardware import CardModes, CardProcess
from t5panel.plan.planning import Finding
from t5panel.preflight.cards import CardReading, Holder, holder_findings, lost_findings, mode_findings, read_holder
from t5panel.preflight.limits import Limits, limit_findings, read_limits
from t5panel.preflight.locks import compiler_caches, lock_findings, stale_locks
from t5panel.preflight.logout import LogoutFacts, logout_findings, logout_text, read_logout
from t5panel.preflight.loopback import loopback_fault, loopback_findings
from t5panel.preflight.memory import HostFacts, host_findings, host_text, read_host
from t5panel.preflight.place import inode_findings
from t5panel.preflight.shm import ShmFacts, read_shm, shm_findings
from t5panel.preflight.system import system_findings

GIB, MIB = 2**30, 2**20
CALM = HostFacts(64 * GIB, 64 * GIB, 4 * GIB, 0, 0, 0, 0.0)
PLAIN = CardModes(capability=(8, 6), persistence=True, mig=False, ecc=None, ecc_errors=None)
SESSION = "0::/user.slice/user-1000.slice/session-7.scope\n"
MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """A tree of files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def codes(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Severity and code of each finding."""
    return [(finding.severity, finding.code) for finding in found]


def reading(*holders: Holder, throttle: tuple[str, ...] = (), modes: CardModes = PLAIN) -> CardReading:
    """Card 1, of 20 GiB."""
    return CardReading(Card(1, 2 * GIB, 20 * GIB, 97, 112.5, 54, throttle), "RTX 3080", modes, holders)


# Cards


def test_a_foreign_process_on_a_card_is_named_with_its_user_command_and_share() -> None:
    (found,) = holder_findings(reading(Holder(41, 3072 * MIB, "ann", "python train.py")))

    assert (found.severity, found.code) == ("warning", "gpu.in-use")
    assert found.message == "card 1 is in use: pid 41 of ann, python train.py (3,072 MiB)"
    assert "--gpus" in found.hint


def test_processes_that_hold_more_than_half_of_a_card_are_an_error() -> None:
    holders = (Holder(41, 6 * GIB, "ann", "python a.py"), Holder(42, 5 * GIB, "bob", "python b.py"))

    assert codes(holder_findings(reading(*holders))) == [("error", "gpu.in-use")]


def test_a_desktop_on_a_card_is_nothing_to_speak_of() -> None:
    assert holder_findings(reading(Holder(41, 200 * MIB, "ann", "Xorg"))) == ()


def test_what_a_dead_run_of_ours_left_on_a_card_is_named_by_its_run() -> None:
    (found,) = holder_findings(reading(Holder(41, 12 * GIB, "ann", "python", RunDir(Path("/runs/night-1")))))

    assert found.severity == "error"
    assert "pid 41 (12,288 MiB), left over by run night-1" in found.message
    assert "`t5panel stop night-1`" in found.hint


def test_a_living_run_of_ours_is_told_of_and_no_fault() -> None:
    rank = Holder(41, 12 * GIB, "ann", "python", RunDir(Path("/runs/night-1")), run_alive=True)

    assert codes(holder_findings(reading(rank))) == [("info", "gpu.own-run")]


def test_a_process_of_another_container_is_said_to_be_out_of_sight() -> None:
    (found,) = holder_findings(reading(read_holder(CardProcess(2**22 + 1, None))))

    assert found.message == f"card 1 is in use: pid {2**22 + 1} (an unknown share), which cannot be seen from here"


def test_whose_process_it_is_and_of_which_run_is_read_from_proc(tmp_path: Path) -> None:
    run = tmp_path / "runs/night-1"
    write(
        tmp_path,
        {
            "41/cmdline": "/usr/bin/python\0-m\0\nt5panel.trainers.manual\0",
            "41/environ": f"A=1\0T5PANEL_RUN_DIR={run}\0",
        },
    )

    holder = read_holder(CardProcess(41, 7), proc=tmp_path)

    assert (holder.command, holder.run, holder.run_alive) == (
        "python -m t5panel.trainers.manual",
        RunDir(run),
        False,
    )
    assert holder.user


def test_a_zombie_on_a_card_has_no_command_and_breaks_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"41/cmdline": "", "41/environ": ""})

    assert read_holder(CardProcess(41, 7), proc=tmp_path).command == ""


def test_modes_memory_errors_and_a_slow_clock_are_warnings_each_with_what_to_do() -> None:
    modes = CardModes(capability=(8, 0), persistence=False, mig=True, ecc=True, ecc_errors=3)

    found = mode_findings(reading(throttle=("thermal",), modes=modes))

    assert codes(found) == [
        ("warning", "gpu.mig"),
        ("warning", "gpu.ecc"),
        ("warning", "gpu.throttled"),
        ("info", "gpu.persistence"),
    ]
    assert all(finding.hint and "card 1" in finding.message for finding in found)


def test_a_healthy_card_and_one_that_says_nothing_are_no_findings() -> None:
    silent = CardModes(capability=None, persistence=None, mig=None, ecc=None, ecc_errors=None)

    assert mode_findings(reading()) == ()
    assert mode_findings(reading(modes=silent)) == ()


def test_each_lost_card_is_named() -> None:
    assert [finding.message for finding in lost_findings((0, 2))] == [
        "card 0 does not answer any more",
        "card 2 does not answer any more",
    ]


# Shared memory


@pytest.fixture
def shm(tmp_path: Path) -> Path:
    """A /dev/shm with old files of NCCL and torch, and one of somebody else."""
    return write(tmp_path / "shm", {"nccl-a": "x" * 9000, "nccl-b": "x", "torch_1_2": "x", "sem.other": "x"})


def test_files_that_no_process_maps_or_has_open_are_stale(shm: Path, tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"7/maps": f"7f00-7f01 rw-s 0 00:15 9 {shm}/nccl-b\n", "8/maps": ""})
    (proc / "8/fd").mkdir()
    (proc / "8/fd/3").symlink_to(shm / "torch_1_2")

    facts = read_shm(shm, proc=proc, now=4e9)

    assert facts.stale == (shm / "nccl-a",)
    assert facts.stale_bytes >= 9000


def test_a_new_file_may_be_about_to_be_mapped(shm: Path, tmp_path: Path) -> None:
    assert read_shm(shm, proc=tmp_path).stale == ()


def test_a_file_that_this_process_has_open_is_in_use(shm: Path) -> None:
    with (shm / "nccl-a").open():
        stale = read_shm(shm, now=4e9).stale

    assert stale == (shm / "nccl-b", shm / "torch_1_2")


def test_stale_files_are_a_warning_that_says_what_to_delete() -> None:
    files = tuple(Path(f"/s/nccl-{n}") for n in range(5))

    (found,) = shm_findings(ShmFacts(GIB, GIB, files, 3 * GIB))

    assert found.message == "5 files (3.00 GiB) of dead processes lie in /dev/shm"
    assert found.hint == "rm /s/nccl-0 /s/nccl-1 /s/nccl-2 and 2 more"


def test_dockers_64_mib_of_shared_memory_are_a_warning_with_three_ways_out() -> None:
    (found,) = shm_findings(ShmFacts(64 * MIB, 60 * MIB))

    assert (found.severity, found.code) == ("warning", "shm.small")
    assert all(way in found.hint for way in ("--shm-size=1g", "remount,size=1g", "NCCL_SHM_DISABLE=1"))


def test_no_shared_memory_at_all_is_a_warning(tmp_path: Path) -> None:
    assert codes(shm_findings(read_shm(tmp_path / "none"))) == [("warning", "shm.none")]


# Host memory


def test_swap_overcommit_and_pressure_are_read(tmp_path: Path) -> None:
    meminfo = "MemTotal: 1000 kB\nMemAvailable: 900 kB\nSwapTotal: 50 kB\nSwapFree: 40 kB\n"
    pressure = "some avg10=3.10 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.25 avg60=0.00 avg300=0.00 total=1\n"
    proc = {"proc/meminfo": meminfo, "proc/pressure/memory": pressure, "proc/sys/vm/overcommit_memory": "2\n"}
    write(tmp_path, proc)

    facts = read_host(root=tmp_path)

    assert facts == HostFacts(1000 * 1024, 1000 * 1024, 100 * 1024, 50 * 1024, 40 * 1024, 2, 1.25)


def test_an_old_kernel_says_nothing_of_pressure(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 900 kB\n"})

    facts = read_host(root=tmp_path)

    assert (facts.pressure, facts.overcommit, facts.swap_total) == (None, 0, 0)
    assert host_text(facts).endswith("GiB in use, no swap")


@pytest.mark.parametrize(
    ("facts", "severity", "code"),
    [
        (HostFacts(64 * GIB, 64 * GIB, 60 * GIB, 0, 0, 0, 0.0), "warning", "ram.full"),
        (HostFacts(64 * GIB, 64 * GIB, 4 * GIB, 0, 0, 0, 12.0), "warning", "ram.pressure"),
        (HostFacts(64 * GIB, 64 * GIB, 4 * GIB, 0, 0, 2, None), "warning", "ram.overcommit"),
        (HostFacts(64 * GIB, 12 * GIB, 4 * GIB, 0, 0, 0, None), "info", "ram.limit"),
    ],
)
def test_each_trouble_of_host_memory_has_a_code(facts: HostFacts, severity: str, code: str) -> None:
    assert codes(host_findings(facts)) == [(severity, code)]
    assert host_findings(CALM) == ()


# Limits


def test_a_limit_on_addresses_is_an_error_and_small_ones_are_warnings() -> None:
    found = limit_findings(Limits(files=256, processes=100, locked=None, core=0, address_space=8 * GIB))

    assert codes(found) == [
        ("error", "limit.address-space"),
        ("warning", "limit.files"),
        ("warning", "limit.processes"),
    ]
    assert [finding.hint for finding in found] == ["ulimit -v unlimited", "ulimit -n 4096", "ulimit -u 4096"]


@pytest.mark.parametrize(("core", "files", "told"), [(None, True, True), (0, True, False), (None, False, False)])
def test_a_core_file_is_told_of_where_one_would_be_written(core: int | None, *, files: bool, told: bool) -> None:
    limits = Limits(files=4096, processes=None, locked=None, core=core, address_space=None, core_files=files)

    assert codes(limit_findings(limits)) == ([("info", "limit.core")] if told else [])


def test_a_kernel_that_pipes_core_dumps_writes_no_files(tmp_path: Path) -> None:
    write(tmp_path, {"sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P\n"})

    assert not read_limits(proc=tmp_path).core_files
    assert read_limits(proc=tmp_path / "none").core_files


# Logout


def logind(root: Path, cgroup: str) -> Path:
    """A machine with systemd, and this process in a cgroup of it."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    return write(root, {"proc/self/cgroup": cgroup})


def test_a_session_that_logind_kills_takes_detached_runs_along_even_of_a_user_who_lingers(tmp_path: Path) -> None:
    root = logind(tmp_path, SESSION)
    write(root, {"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n", "var/lib/systemd/linger/ann": ""})

    facts = read_logout(root, user="ann")

    assert codes(logout_findings(facts)) == [("warning", "logout.kills")]
    assert logout_findings(facts)[0].hint == "start it with `systemd-run --user --scope t5panel …`"
    assert "enable-linger" in logout_findings(read_logout(root, user="bob"))[0].hint
    assert logout_text(facts) == "detached runs end with the login"


def test_drop_ins_overrule_the_main_file_and_etc_overrules_the_vendor(tmp_path: Path) -> None:
    root = logind(tmp_path, SESSION)
    write(
        root,
        {
            "etc/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n",
            "usr/lib/systemd/logind.conf.d/50-kill.conf": "[Login]\nKillUserProcesses=no\n",
            "etc/systemd/logind.conf.d/50-kill.conf": "[Login]\nKillUserProcesses = yes\n",
            "run/systemd/logind.conf.d/40-early.conf": "[Login]\nKillUserProcesses=no\n",
        },
    )

    assert read_logout(root, user="ann").kills


def test_a_default_built_in_by_the_distribution_counts_where_nothing_is_set(tmp_path: Path) -> None:
    root = logind(tmp_path, SESSION)
    write(root, {"usr/lib/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n#KillExcludeUsers=root\n"})

    assert read_logout(root, user="ann").kills
    assert not read_logout(root, user="root").kills


@pytest.mark.parametrize(("line", "kills"), [("KillOnlyUsers=bob", False), ("KillExcludeUsers=root ann", False)])
def test_users_who_are_spared_are_spared(tmp_path: Path, line: str, *, kills: bool) -> None:
    root = logind(tmp_path, SESSION)
    write(root, {"etc/systemd/logind.conf": f"[Login]\nKillUserProcesses=yes\n{line}\n"})

    assert read_logout(root, user="ann").kills is kills


def test_under_the_users_manager_a_run_needs_a_user_who_lingers(tmp_path: Path) -> None:
    root = logind(tmp_path, MANAGER)
    write(root, {"var/lib/systemd/linger/ann": ""})

    assert codes(logout_findings(read_logout(root, user="bob"))) == [("warning", "logout.linger")]
    assert logout_findings(read_logout(root, user="ann")) == ()


def test_without_systemd_nothing_ends_at_logout(tmp_path: Path) -> None:
    assert read_logout(tmp_path, user="ann") == LogoutFacts(kills=False, place="", lingers=False)


# Loopback, disk, locks


def test_the_loopback_of_this_machine_answers() -> None:
    assert loopback_findings(loopback_fault()) == ()


def test_a_loopback_that_is_missing_or_refuses_is_an_error() -> None:
    (missing,) = loopback_findings(loopback_fault(interface="lo9"))
    (refusing,) = loopback_findings(loopback_fault(address="203.0.113.1"))

    assert (missing.severity, missing.code) == ("error", "network.loopback")
    assert "'lo9'" in missing.message
    assert "203.0.113.1" in refusing.message


def test_a_disk_that_takes_no_more_files_is_a_warning_and_one_that_does_not_count_is_none(tmp_path: Path) -> None:
    assert codes(inode_findings(tmp_path, 12)) == [("warning", "disk.inodes")]
    assert inode_findings(tmp_path, 10**6) == inode_findings(tmp_path, None) == ()


def test_a_lock_that_nobody_has_open_is_stale(tmp_path: Path) -> None:
    write(tmp_path, {"torch/py311/op/lock": "", "torch/py311/op/op.so": "", "triton/x/lock": ""})
    caches = compiler_caches(
        {"TORCH_EXTENSIONS_DIR": str(tmp_path / "torch"), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    )

    with (tmp_path / "triton/x/lock").open():
        locks = stale_locks(caches)

    assert locks == (tmp_path / "torch/py311/op/lock",)
    assert codes(lock_findings(locks)) == [("info", "compiler.lock")]


def test_compilers_keep_their_caches_in_the_home_by_default() -> None:
    assert compiler_caches({"HOME": "/h"}) == (Path("/h/.cache/torch_extensions"), Path("/h/.triton/cache"))


def test_before_a_start_only_what_stands_against_it_is_said() -> None:
    assert all(finding.severity != "info" for finding in system_findings(3))
