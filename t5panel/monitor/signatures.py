"""The table of what logs say when a run dies: patterns, in order of precedence, with their sentence and hint.

Words in braces come from the pattern's named groups and from `diagnose`: {who} the rank and its step, {gist} the
exception's first line, {where} its place, {free} and {memory} what was measured, {run} the run's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Weight = Literal["cause", "symptom", "consequence"]
"""A symptom has a cause elsewhere as often as not; a consequence always has."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to die."""

    code: str
    patterns: tuple[str, ...]
    sentence: str
    hint: str
    weight: Weight = "cause"
    context: str = ""
    """Found in the traceback or in torch's warnings as well: the place tells what the message does not."""
    anywhere: bool = False
    """Also looked for outside of exceptions: what a kernel, NCCL or a launcher prints by itself."""

    def match(self, text: str, traceback: str = "") -> re.Match[str] | None:
        """Where the first of the patterns is found. Compiled when a run has died, not at import."""
        if self.context and not re.search(self.context, traceback):
            return None
        return next((found for pattern in self.patterns if (found := re.search(pattern, text))), None)


def precedence(row: Signature | None) -> int:
    """A row's place in the table; an exception that no row knows comes last."""
    return TABLE.index(row) if row is not None else len(TABLE)


def find(text: str, traceback: str) -> tuple[Signature, re.Match[str]] | None:
    """The first row of the table that matches the messages of an exception."""
    return next(((row, found) for row in TABLE if (found := row.match(text, traceback))), None)


def find_anywhere(text: str) -> tuple[Signature, re.Match[str]] | None:
    """The first row that matches a log as a whole, of those that may stand outside of an exception."""
    return next(((row, found) for row in TABLE if row.anywhere and (found := row.match(text))), None)


_RESUME = "`t5panel resume {run}` goes on from the newest complete checkpoint"
_DOCTOR = "`t5panel doctor` checks it"

TABLE = (
    # What a card or its driver says.
    Signature(
        "gpu-lost",
        (
            r"GPU has fallen off the bus",
            r"Unable to determine the device handle for",
            r"\bGPU is lost\b",
            r"uncorrectable ECC error encountered",
            r"CUDA error: (?:the )?device (?:is )?lost",
            r"nvmlDeviceGetHandleByIndex.*Unknown Error",
        ),
        "{who} lost its card: {gist}",
        "look for Xid in `dmesg`, check power and temperature, reboot; then " + _RESUME,
        anywhere=True,
    ),
    Signature(
        "cuda-out-of-memory",
        (
            r"CUDA out of memory",
            r"torch\.(?:cuda\.)?OutOfMemoryError",
            r"CUDA (?:driver )?error: out of memory",
            r"Cuda failure (?:2 )?'out of memory'",
            r"CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED",
        ),
        "{who} ran out of GPU memory{shortage}",
        "{smaller}",
    ),
    Signature(
        "driver-mismatch",
        (
            r"(?P<words>Driver/library version mismatch)",
            r"(?P<words>The NVIDIA driver on your system is too old \(found version \d+\))",
            r"(?P<words>CUDA driver version is insufficient for CUDA runtime version)",
            r"forward compatibility was attempted on non supported HW",
            r"system has unsupported display driver / cuda driver combination",
            r"the provided PTX was compiled with an unsupported toolchain",
        ),
        "{who} cannot use its card: the NVIDIA driver does not fit this CUDA ({words})",
        "reboot after a driver update, or install a driver for this torch's CUDA; `t5panel doctor` shows both",
        anywhere=True,
    ),
    Signature(
        "no-kernel-image",
        (
            r"with CUDA capability (?P<capability>sm_\d+) is not compatible with the current PyTorch installation",
            r"no kernel image is available for execution on the device",
        ),
        "{who} failed: this torch was not built for the card's compute capability {capability}",
        "install a torch whose CUDA build lists the card, set `interpreter` to its Python; `t5panel doctor` shows both",
        anywhere=True,
    ),
    Signature(
        "torch-without-cuda",
        (r"Torch not compiled with CUDA enabled",),
        "{who} failed: its torch was built without CUDA",
        "install a CUDA build of torch, or rehearse with `--device cpu`",
    ),
    Signature(
        "no-card",
        (
            r"No CUDA GPUs are available",
            r"Found no NVIDIA driver on your system",
            r"invalid device ordinal",
            r"no CUDA-capable device is detected",
            r"CUDA(?: driver)? (?:error: )?initialization error",
            r"CUDA unknown error - this may be due to an incorrectly set up environment",
            r"no GPU resources available",
        ),
        "{who} found no card that it can use: {words}",
        "see `nvidia-smi` and CUDA_VISIBLE_DEVICES, choose cards with `--gpus`; " + _DOCTOR,
    ),
    Signature(
        "card-busy",
        (r"CUDA-capable device\(s\) is/are busy or unavailable", r"all CUDA-capable devices are busy or unavailable"),
        "{who} was refused by its card: it is busy, or in exclusive mode for another process",
        "`t5panel doctor` names who uses it; choose others with `--gpus`",
    ),
    Signature(
        "device-assert",
        (
            r"Assertion `(?P<check>[^`]*(?:srcIndex|index)[^`]*)` failed",
            r"CUDA error: device-side assert triggered",
        ),
        "{who} asked its card for an index out of range: most likely a token id beyond the model's vocabulary",
        "the tokenizer must belong to the model: see `--set model.tokenizer=…`; then start anew",
        anywhere=True,
    ),
    Signature(
        "index-out-of-range",
        (r"IndexError: index out of range in self",),
        "{who} looked up an embedding out of range: most likely a token id beyond the model's vocabulary",
        "the tokenizer must belong to the model: see `--set model.tokenizer=…`; then start anew",
    ),
    Signature(
        "illegal-memory-access",
        (r"an illegal memory access was encountered", r"CUDA error: misaligned address"),
        "{who} failed with an illegal memory access on its card",
        "CUDA_LAUNCH_BLOCKING=1 names the operation; if the place changes from run to run, suspect the card; "
        + _RESUME,
    ),
    Signature(
        "cuda-fork",
        (r"Cannot re-initialize CUDA in forked subprocess",),
        "{who} used CUDA in a forked data loader process",
        "`--set train.dataloader_num_workers=0`",
    ),
    # NCCL, the most particular first.
    Signature(
        "nccl-shared-memory",
        (
            r"(?P<words>Error while (?:attaching to|creating) shared memory segment /dev/shm/\S* \(size \d+\)[^\n]*)",
            r"(?P<words>(?:posix_fallocate|ftruncate|shm_open)[^\n]*failed[^\n]*/dev/shm[^\n]*)",
            r"(?P<words>No space left on device[^\n]*/dev/shm/nccl[^\n]*)",
        ),
        "{who} failed in NCCL: no shared memory in /dev/shm ({words})",
        "remove stale /dev/shm/nccl-* files, give the container a larger /dev/shm (`--shm-size`), or start with"
        " NCCL_SHM_DISABLE=1 at a loss of speed; `t5panel doctor` shows its size",
        anywhere=True,
    ),
    Signature(
        "nccl-timeout",
        (
            r"Watchdog caught collective operation timeout: WorkNCCL\([^)]*?OpType=(?P<operation>\w+)"
            r".*?Timeout\(ms\)=(?P<limit>\d+)\) ran for (?P<milliseconds>\d+) milliseconds",
            r"Watchdog caught collective operation timeout",
        ),
        "{who} waited in vain for the other ranks{operation_words}: a rank hangs, or is far behind",
        "the rank without this message is the one that hung, see its log; " + _RESUME,
        "symptom",
        anywhere=True,
    ),
    # The network and the hub; before what a lost peer says, for both may speak of a reset connection.
    Signature(
        "hub-gated",
        (
            r"GatedRepoError",
            r"RepositoryNotFoundError",
            r"is not a local folder and is not a valid model identifier",
            r"Access to model \S+ is restricted",
            r"Repo id must be in the form",
        ),
        "{who} was refused by the hub: {gist}",
        "check `model.name_or_path`; for a gated model log in with `hf auth login`, or name a local folder",
    ),
    Signature(
        "hub-unreachable",
        (
            r"We couldn't connect to '?(?P<host>[^' ]+)",
            r"cannot find the requested files in the local cache",
            r"LocalEntryNotFoundError|OfflineModeIsEnabled",
            r"HTTPSConnectionPool\(host='(?P<host>[^']+)'",
        ),
        "{who} could not reach the hub {host}, and the files are not in its cache",
        "check the network or HF_ENDPOINT, or name a local folder: `--set model.name_or_path=/path`",
    ),
    Signature(
        "peer-lost",
        (
            r"Connection closed by peer",
            r"Connection reset by peer",
            r"[Bb]roken ?[Pp]ipe",
            r"ncclRemoteError|remote process exited or there was a network error",
            r"failed to recv, got 0 bytes|Connection was likely closed",
            r"gloo/transport/\S+\] (?!Timed out)",
            r"NCCL communicator was aborted",
            r"ChildFailedError",
            r"CalledProcessError: Command '\['[^']*python[\d.]*', '-m', '",  # accelerate's, of its only rank
            r"Rank \d+ successfully reached monitoredBarrier, but received errors",
        ),
        "{who} lost the connection to another rank, which left no word of its own",
        "see the logs folder of the run; " + _RESUME,
        "consequence",
    ),
    Signature(
        "nccl-error",
        (
            r"NCCL error in: \S+, (?P<words>[^\n,]+), NCCL version",
            r"(?P<words>nccl(?:UnhandledCuda|System|Internal|InvalidUsage|InvalidArgument)Error[^\n]*)",
            r"NCCL Error \d+: (?P<words>[^\n]+)",
        ),
        "{who} failed in NCCL: {words}{last_error}",
        "NCCL_DEBUG=INFO in the environment of the next start tells more; `t5panel doctor` tries a collective",
        "symptom",
    ),
    Signature(
        "collective-timeout",
        (
            r"Timed out waiting (?P<milliseconds>\d+)ms for (?P<operation>\w+) operation to complete",
            r"Socket Timeout|wait timeout after (?P<milliseconds>\d+)ms",
        ),
        "{who} waited {seconds} for the other ranks in vain: a rank hangs, or is far behind",
        "the rank without this message is the one that hung, see its log; " + _RESUME,
        "symptom",
    ),
    Signature(
        "host-name",
        (r"client socket has (?:timed out|failed to connect)[^\n]*?\((?P<words>[^,()]+), \d+\)",),
        "{who} could not resolve the name of its host: {words}",
        "the machine must resolve its own name: see /etc/hosts and MASTER_ADDR; `t5panel doctor` tries a collective",
        context=r"gai error",
    ),
    Signature(
        "rendezvous",
        (
            r"client socket has (?:timed out|failed to connect)[^\n]*?\(?(?P<address>[\w.:-]+, \d+)\)",
            r"DistStoreError: Timed out after (?P<milliseconds>\d+)|RendezvousTimeoutError|RendezvousConnectionError",
        ),
        "{who} found no other rank: nobody answered at {address}",
        "a firewall or another rank's early death; `t5panel doctor` tries a collective",
        "symptom",
    ),
    Signature(
        "port-in-use",
        (
            r"port: (?P<port>\d+)[^\n]*EADDRINUSE",
            r"failed to bind to \S+:(?P<port>\d+) \(errno: 98",
            r"EADDRINUSE|Address already in use|address already in use",
        ),
        "{who} could not start: the port {port} is in use by another program",
        "start it again: t5panel takes a free port at every start",
    ),
    Signature(
        "host-name",
        (
            r"(?P<words>(?:Temporary failure in n|N)ame (?:or service not known|resolution)[^\n]*)",
            r"(?P<words>Address family not supported by protocol)",
            r"(?P<words>Cannot assign requested address)",
            r"(?P<words>no socket interface found|Bootstrap : no socket interface found)",
        ),
        "{who} could not resolve or bind its address: {words}",
        "the machine must resolve its own name: see /etc/hosts, MASTER_ADDR, NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME",
    ),
    # Memory, disk and limits of the host.
    Signature(
        "shared-memory",
        (
            r"is killed by signal: Bus error",
            r"unable to (?:open|write|allocate) (?:shared memory|to file|file)[^\n]*torch_",
            r"insufficient shared memory \(shm\)",
        ),
        "{who} failed: /dev/shm is too small for its data loader",
        "`--set train.dataloader_num_workers=0` needs none; or give the container a larger /dev/shm (`--shm-size`)",
    ),
    Signature(
        "loader-killed",
        (r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) (?:is killed by signal: (?P<signal>\w+)|exited)",),
        "{who} lost its data loader process {pid}, which was killed{memory}",
        "`--set train.dataloader_num_workers=0` reads in the rank itself and needs less host memory; " + _RESUME,
    ),
    Signature(
        "host-allocation",
        (
            r"you tried to allocate (?P<bytes>\d+) bytes",
            r"DefaultCPUAllocator: (?:not enough memory|can't allocate memory)",
            r"\bMemoryError\b",
            r"Cannot allocate memory",
            r"std::bad_alloc",
        ),
        "{who} got no more host memory{bytes_words}{memory}",
        "free memory, take fewer ranks (`--set num_gpus=…`) or rows; `t5panel plan` shows what a rank needs",
    ),
    Signature(
        "disk-quota",
        (r"Disk quota exceeded|EDQUOT|\[Errno 122\]",),
        "{who} could not write: the user's disk quota is used up{free}",
        "free space or use another `--run-dir`, lower `--set train.save_total_limit`; " + _RESUME,
    ),
    Signature(
        "disk-full",
        (
            r"No space left on device|ENOSPC|\[Errno 28\]",
            r"PytorchStreamWriter failed writing",
            r"inline_container\.cc:\d+\]? ?\. unexpected pos \d+ vs \d+",
            r"basic_ios::clear: iostream error",
            r"I/O error: No space",
        ),
        "{who} could not write: the disk is full{free}",
        "free space, lower `--set train.save_total_limit`; then " + _RESUME,
        anywhere=True,
    ),
    Signature(
        "file-size-limit",
        (r"File too large|\[Errno 27\]",),
        "{who} could not write: the file grew beyond the limit of the file system or of `ulimit -f`",
        "raise `ulimit -f` or use another `--run-dir`; then " + _RESUME,
    ),
    Signature(
        "open-files",
        (r"Too many open files|\[Errno 24\]|received 0 items of ancdata",),
        "{who} hit the limit of open files",
        "raise it with `ulimit -n 65536` before the start, or `--set train.dataloader_num_workers=0`",
    ),
    Signature(
        "too-many-processes",
        (r"can't start new thread", r"pthread_create failed", r"Resource temporarily unavailable"),
        "{who} could start no more threads: a limit on processes is reached",
        "raise `ulimit -u` or the container's pids limit; `t5panel doctor` shows it",
    ),
    # Software.
    Signature(
        "compiler-missing",
        (
            r"CUDA_HOME (?:does not exist|environment variable is not set)",
            r"Ninja is required to load C\+\+ extensions",
            r"Error building extension '(?P<extension>\w+)'",
            r"No such file or directory: '(?P<compiler>(?:[^']*/)?(?:nvcc|g\+\+|c\+\+|gcc|ninja|cc))'",
            r"Unable to (?:JIT load|find) (?:the )?(?P<extension>\w+) op",
            r"Failed to find C compiler|(?:g\+\+|c\+\+|nvcc): (?:command )?not found",
        ),
        "{who} could not build a native extension{extension_words}: a compiler is missing or failed",
        "install g++, ninja and the CUDA toolkit of this torch (CUDA_HOME), or `--set train.optim=adamw_torch`",
    ),
    Signature(
        "permission",
        (
            r"(?P<words>PermissionError: [^\n]*)",
            r"(?P<words>\[Errno 13\][^\n]*)",
            r"(?P<words>\[Errno 30\][^\n]*)",
            r"(?P<words>Permission denied[^\n]*)",
        ),
        "{who} was not allowed to: {words}",
        "give the user who starts the run access to it",
    ),
    Signature(
        "library-version",
        (
            r"(?P<words>version `?(?:GLIBC|GLIBCXX|CXXABI)\S*' not found)",
            r"(?P<words>undefined symbol: \S+)",
            r"(?P<words>numpy\.dtype size changed)",
            r"(?P<words>\b[\w.+-]{1,200}: cannot open shared object file)",
            r"(?P<words>A module that was compiled using NumPy 1\.x cannot be run in\s+NumPy \S+)",
        ),
        "{who} failed to load a library: {words}",
        "packages of one environment do not fit each other: reinstall them together; `t5panel doctor` lists versions",
    ),
    Signature(
        "wrong-launch-line",
        (
            r"(?P<words>attempted relative import (?:with no known parent package|beyond top-level package))",
            r"(?P<words>error: unrecognized arguments: [^\n]*)",
            r"(?P<words>error: the following arguments are required: [^\n]*)",
            r"(?P<words>Unknown command: [^\n]*)",
            r"(?P<words>can't open file '[^']*': \[Errno 2\])",
            r"(?P<words>No module named \S+\.__main__[^\n]*)",
        ),
        "{who} was started by a wrong launch line: {words}",
        "`t5panel plan --preset …` prints lines that work; deepspeed takes `--module`, not `-m`",
        anywhere=True,
    ),
    Signature(
        "missing-package",
        (
            r"No package metadata was found for The '(?P<package>[\w.-]+)[^']*' distribution",
            r"You need to install `(?P<package>[\w.-]+)` in order to",
        ),
        "{who} was asked for what the package {package} does, which is not installed",
        "`pip install {package}` with the Python that `t5panel plan` shows, or leave out the setting that needs it",
    ),
    Signature(
        "import",
        (
            r"(?P<words>cannot import name '[^']*' from (?:partially initialized module )?'[^']*')",
            r"(?P<words>No module named '?[\w.]+'?)",
            r"(?P<words>requires the [^\n]{1,60} library but it was not found)",
            r"(?P<words>ImportError: [^\n]*)",
        ),
        "{who} failed to import: {words}",
        "the packages of `interpreter` do not fit the trainer; `t5panel doctor` lists their versions",
    ),
    # What was to be trained.
    Signature(
        "not-resumable",
        (r"ResumeError: (?P<words>[^\n]*)",),
        "{who} refused to resume: {words}",
        "set the named keys back to what they were (`--set …`), or start a new run",
    ),
    Signature(
        "wrong-world",
        (r"WorldSizeError: (?P<words>[^\n]*)",),
        "{who} ended at once: {words}",
        "another process group or launcher variable is in the way; `t5panel plan` prints the line that works",
    ),
    Signature(
        "unsafe-weights",
        (r"Weights only load failed|Unsupported (?:global|operand)[^\n]*(?:weights_only|safe_globals)",),
        "{who} refused a checkpoint that holds more than tensors",
        "`t5panel resume` takes checkpoints of runs of your own; convert other files to safetensors",
    ),
    Signature(
        "broken-weights",
        (
            r"SafetensorError: (?P<words>[^\n]*)",
            r"Error while deserializing header: (?P<words>[^\n]*)",
            r"PytorchStreamReader failed (?P<words>[^\n]*)",
            r"(?P<words>unpickling stack underflow|invalid load key, [^\n]*)",
        ),
        "{who} could not read weights: {words}; the file is damaged or incomplete",
        "download the model again; a run's own checkpoints are checked: " + _RESUME,
    ),
    Signature(
        "weights-mismatch",
        (r"(?P<words>size mismatch for [^\n]*)", r"(?P<words>Error\(s\) in loading state_dict for \w+)"),
        "{who} was given weights of another shape: {words}",
        "`model.name_or_path` and the checkpoint must be of one model; start a new run for another one",
    ),
    Signature(
        "tokenizer",
        (
            r"[Cc]an't load tokenizer for",
            r"Couldn't instantiate the backend tokenizer",
            r"requires the (?:SentencePiece|protobuf) library",
            r"Tokenizer class \S+ does not exist",
        ),
        "{who} could not load the tokenizer: {gist}",
        "name a complete tokenizer folder: `--set model.tokenizer=/path`",
    ),
    Signature(
        "tokenizer",
        (r"JSONDecodeError|not a string|Internal: |ModelWrapper|SentencePiece|NoneType|data did not match",),
        "{who} could not load the tokenizer: {gist}",
        "its files are damaged or incomplete; name a whole folder: `--set model.tokenizer=/path`",
        context=r"tokeniz\w*\.py|sentencepiece",
    ),
    Signature(
        "loss-not-finite",
        (
            r"FloatingPointError",
            r"loss (?:is|became|was) (?:nan|NaN|inf|not finite)",
            r"Function '\w+' returned nan values",
            r"returned (?:nan|non-finite)|non-finite (?:loss|gradient)",
        ),
        "{who} met a loss that is not finite: {gist}",
        "`--set train.learning_rate=…` lower, `--set train.max_grad_norm=1.0`, bf16 instead of fp16; " + _RESUME,
    ),
    Signature(
        "data-registry",
        (r"dataset_info\.json", r"Undefined dataset \S+ in"),
        "{who} found no such data set: {gist}",
        "name one of its dataset_info.json, or the data file itself: `--set data.train=/path/file.parquet`",
    ),
    Signature(
        "llamafactory-arguments",
        (r"(?P<words>Some keys are not used by the HfArgumentParser: [^\n]*)",),
        "{who} was given settings that LLaMA-Factory does not know: {words}",
        "correct or remove them in the YAML of --config or in `--set llamafactory.…`",
    ),
    Signature(
        "llamafactory-template",
        (r"Template (?P<template>\S+) does not exist",),
        "{who} found no template {template} in LLaMA-Factory",
        "leave `llamafactory.template` out for the tokenizer's own, or name another: `--set llamafactory.template=…`",
    ),
    Signature(
        "lora-target",
        (r"Target modules \{?(?P<words>[^\n}]{1,200})\}? not found in the base model",),
        "{who} found no modules {words} in the model to adapt",
        "`--set llamafactory.lora_target=all` adapts every linear layer; else name modules that the model has",
    ),
    Signature(
        "data-row",
        (
            r"(?P<words>\b(?:row|line) \d[\d,]*(?::| is | has | holds | of )[^\n]*)",
            r"(?P<words>JSON parse error[^\n]*)",
            r"JSONDecodeError: (?P<words>[^\n]*)",
            r"(?P<words>CSV parse error[^\n]*)",
            r"(?P<words>Error tokenizing data[^\n]*)",
            r"(?P<words>'utf-8' codec can't decode byte[^\n]*)",
        ),
        "{who} met data that it cannot use: {words}",
        "repair or remove it, then start again; `t5panel plan` checks the first rows of a file",
    ),
    Signature(
        "data-format",
        (
            r"(?P<words>ArrowInvalid: [^\n]*)",
            r"(?P<words>DatasetGenerationError[^\n]*)",
            r"(?P<words>Parquet magic[^\n]*)",
        ),
        "{who} could not read the data: {words}",
        "`--set data.train=…` takes parquet, JSONL or CSV with a prompt and a response column",
    ),
    Signature(
        "column",
        (
            r"KeyError: '(?P<column>(?:in|out)put|prompt|response|instruction|source|target|text|labels?|answer)'",
            r"(?:Column|column) '?(?P<column>\w+)'? (?:not in the dataset|does not exist|not found)",
        ),
        "{who} missed the column {column} in the data",
        "name the columns: `--set data.prompt_column=… --set data.response_column=…`",
    ),
    Signature(
        "column",
        (r"KeyError: '(?P<column>[^']+)'",),
        "{who} missed the column {column} in the data",
        "correct the columns of this data set in dataset_info.json, or name the file itself: `--set data.train=…`",
        context=r"llamafactory/data/converter\.py",
    ),
    Signature(
        "deepspeed-config",
        (
            r"(?P<words>Check batch related parameters\.[^\n]*)",
            r"(?P<words>\d+ validation errors? for DeepSpeed\w+)",
            r"(?P<words>DeepSpeedConfigError[^\n]*)",
        ),
        "{who} was given a DeepSpeed configuration that does not hold: {words}",
        "leave batch sizes to `train.…`; `t5panel show PRESET` prints the JSON as DeepSpeed gets it",
    ),
    Signature(
        "unused-parameters",
        (r"Expected to have finished reduction in the prior iteration",),
        "{who} has parameters that take no part in the loss",
        "train the whole model, or freeze them before it is wrapped",
    ),
    Signature(
        "launcher-signalled",
        (r"SignalException: Process \d+ got signal: (?P<number>\d+)",),
        "the launcher was ended by {signal} from outside{session}",
        "{logout}",
        "symptom",
    ),
    Signature(
        "interrupted",
        (r"KeyboardInterrupt",),
        "{who} was interrupted from a keyboard (SIGINT)",
        "stop a run with `t5panel stop {run}`; " + _RESUME,
        "symptom",
    ),
    Signature(
        "cuda-error",
        (r"CUDA error: (?P<words>[^\n]*)", r"(?P<words>CU(?:BLAS|DNN)_STATUS_\w+)"),
        "{who} failed on its card: {words}",
        "CUDA_LAUNCH_BLOCKING=1 names the operation; look for Xid in `dmesg`; " + _RESUME,
    ),
    Signature(
        "missing-file",
        (r"FileNotFoundError: (?P<words>[^\n]*)", r"ValueError: (?P<words>File \S+ not found)"),
        "{who} missed a file: {words}",
        "a path of `model` or `data` was moved; " + _RESUME,
    ),
)
