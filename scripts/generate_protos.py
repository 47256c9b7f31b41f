"""Generates the package exchange_api from protos/ (`make protos`); `--check` only reports what is stale.

protoc names a generated module by the .proto's path (exchange/exchange_pb2.py). The product imports it as
`exchange_api.exchange_pb2`, because a top-level package called `exchange` could belong to anybody; so the
modules are moved there and their imports of each other rewritten.

Exit codes: 0 up to date or written; 1 stale (`--check`) or protoc failed.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = ROOT / "exchange_api"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


class GenerationError(Exception):
    """protoc refused a file; its own message is on stderr."""


def generate(protos: Path) -> dict[str, str]:
    """Returns file name → content of every generated module, imports rewritten to exchange_api."""
    sources = sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))
    bin_dir = Path(sysconfig.get_path("scripts"))
    with tempfile.TemporaryDirectory() as directory:
        arguments = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--proto_path={protos}",
            f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
            f"--python_out={directory}",
            f"--grpc_python_out={directory}",
            f"--mypy_out=quiet:{directory}",
            f"--mypy_grpc_out=quiet:{directory}",
            *sources,
        ]
        if subprocess.run(arguments, check=False).returncode != 0:
            raise GenerationError
        generated = [path for path in Path(directory).rglob("*") if path.name.endswith(GENERATED_SUFFIXES)]
        return {path.name: rewrite_imports(path.read_text(), sources) for path in generated}


def rewrite_imports(code: str, sources: list[str]) -> str:
    """Points imports and module names of the generated code at exchange_api."""
    for source in sources:
        folder, _, stem = source.removesuffix(".proto").rpartition("/")
        package, module = folder.replace("/", "."), f"{stem}_pb2"
        code = code.replace(f"from {package} import {module}", f"from exchange_api import {module}")
        # The __module__ of the message classes; pickle and documentation tools import by it.
        code = code.replace(f"'{package}.{module}'", f"'exchange_api.{module}'")
    return code


def stale_files(wanted: Mapping[str, str], package: Path) -> list[str]:
    """Names of generated files that differ from `wanted`, are missing, or belong to no .proto any more."""
    present = {path.name for path in package.iterdir() if path.name.endswith(GENERATED_SUFFIXES)}
    changed = {name for name, code in wanted.items() if name not in present or (package / name).read_text() != code}
    return sorted(changed | (present - wanted.keys()))


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate exchange_api from protos/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the code is stale")
    options = parser.parse_args()
    try:
        wanted = generate(PROTOS)
    except GenerationError:
        return 1
    stale = stale_files(wanted, PACKAGE)
    if options.check:
        for name in stale:
            print(f"exchange_api/{name} is stale: run `make protos`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (PACKAGE / name).write_text(wanted[name])
        else:
            (PACKAGE / name).unlink()
        print(f"exchange_api/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
