"""What of an ``environment.yml`` can be honoured without conda: a small list of names, and its pip part.

Names and versions are conda's "match specifications"; source: conda's documentation of ``conda.models.match_spec``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from member.core.refusals import RepositoryError, UnsupportedError

# Packages that have the same name on the Python package index ...
_SAME_NAMES = """
    altair arviz astropy attrs beautifulsoup4 biopython black bokeh boto3 bottleneck bqplot cartopy cftime click
    cloudpickle cryptography cython cytoolz dask dask-labextension datashader distributed emcee fastapi
    fastparquet fiona flask folium fsspec gcsfs gensim geopandas h5netcdf h5py holoviews httpx humanize hvplot
    imageio ipycanvas ipykernel ipyleaflet ipympl ipython ipywidgets jinja2 joblib jsonschema jupyter jupyterlab
    jupyterlab-git jupyterlab_widgets jupytext kiwisolver lightgbm llvmlite lmfit lxml mpmath mypy nbconvert
    nbdime nbformat nbgitpuller netcdf4 networkx nltk notebook numba numexpr numpy openpyxl packaging pandas
    panel papermill param patsy pillow pint pip plotly polars pooch psutil pyarrow pydantic pymc pyproj pytest
    python-dateutil pytz pyyaml rasterio requests rich rioxarray ruff s3fs scikit-image scikit-learn scipy
    seaborn setuptools shapely simpy six spacy sqlalchemy statsmodels sympy tabulate tensorflow textblob
    tifffile toolz tornado tqdm traitlets typing-extensions typing_extensions uncertainties vega_datasets voila
    wheel widgetsnbextension wordcloud xarray xgboost xlrd xlsxwriter zarr
"""
_SAME = frozenset(_SAME_NAMES.split())

#: ... and those that have another.
_OTHER = {
    "dask-core": "dask",
    "ipython_genutils": "ipython-genutils",
    "matplotlib": "matplotlib",
    "matplotlib-base": "matplotlib",
    "opencv": "opencv-python-headless",
    "psycopg2": "psycopg2-binary",
    "py-opencv": "opencv-python-headless",
    "pytables": "tables",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "seaborn-base": "seaborn",
    "torchvision": "torchvision",
}

_CHANNEL = re.compile(r"^[\w./:-]+::")
_SPEC = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\s*(?P<rest>.*)")
_CONSTRAINT = re.compile(r"(?P<operator>==|!=|>=|<=|~=|>|<|=)?(?P<version>[0-9][A-Za-z0-9_.+!*-]*)")


@dataclass(frozen=True, slots=True)
class CondaEnvironment:
    """Requirements for pip, and the Python version ("" = not told)."""

    requirements: tuple[str, ...]
    python: str = ""


def translate(environment: object, name: str = "environment.yml") -> CondaEnvironment:
    """Read the content of an ``environment.yml``.

    Raises :class:`UnsupportedError` for a package that needs conda, :class:`RepositoryError` for what is malformed.
    """
    if not isinstance(environment, Mapping):
        raise RepositoryError(f"{name} is not a mapping")
    dependencies = environment.get("dependencies") or []
    if not isinstance(dependencies, Sequence) or isinstance(dependencies, str):
        raise RepositoryError(f"{name}: 'dependencies' is not a list")
    requirements: list[str] = []
    unsupported: list[str] = []
    python = ""
    for item in dependencies:
        if isinstance(item, Mapping):
            requirements += _pip_part(item, name)
            continue
        package, constraint = _read(str(item), name)
        if package == "python":
            python = _python_version(constraint)
        elif requirement := _requirement(package, constraint):
            requirements.append(requirement)
        else:
            unsupported.append(package)
    if unsupported:
        raise UnsupportedError(
            f"{name} asks for {_enumerated(unsupported)} from conda",
            "which this member's process builder cannot install",
        )
    return CondaEnvironment(tuple(requirements), python)


def _pip_part(item: Mapping[Any, Any], name: str) -> list[str]:
    if set(item) != {"pip"}:
        raise UnsupportedError(
            f"{name} has a part {str(next(iter(item), None))[:40]!r}",
            "which this member's process builder does not know",
        )
    lines = item["pip"] or []
    if not isinstance(lines, Sequence) or isinstance(lines, str):
        raise RepositoryError(f"{name}: the pip part is not a list")
    return [line for entry in lines if (line := str(entry).strip()) and "\n" not in line]


def _read(text: str, name: str) -> tuple[str, str]:
    """The name of a package and the constraint on its version, "" if there is none."""
    match = _SPEC.fullmatch(_CHANNEL.sub("", text.split("#")[0].strip()))
    if not match:
        raise RepositoryError(f"{name}: {text[:80]!r} cannot be read as a package")
    return match["name"].lower(), match["rest"].strip()


def _requirement(package: str, constraint: str) -> str | None:
    """The same for pip; ``None`` for a package that is not known here, or a constraint that pip has no words for."""
    known = _OTHER.get(package) or (package if package in _SAME else None)
    if known is None or not constraint:
        return known
    if constraint.startswith("=") and not constraint.startswith("=="):
        constraint, *build = constraint[1:].lstrip().split("=")
        return (
            None
            if any("cuda" in part for part in build)
            else _with(known, f"={constraint}" if not build else f"=={constraint}")
        )
    return _with(known, constraint)


def _with(name: str, constraints: str) -> str | None:
    parts = []
    for text in constraints.replace(" ", "").split(","):
        match = _CONSTRAINT.fullmatch(text)
        if not match:
            return None
        operator, version = match["operator"] or "==", match["version"]
        if operator == "=":  # conda's fuzzy match
            operator, version = "==", version.removesuffix("*").rstrip(".") + ".*"
        parts.append(operator + version)
    return name + ",".join(parts)


def _python_version(constraint: str) -> str:
    """``3.11`` of ``=3.11``, ``==3.11.4`` or ``>=3.11``; "" where an upper bound alone or nothing is told."""
    match = re.match(r"(?:=|==|>=|~=)?\s*(\d+\.\d+(?:\.\d+)?)", constraint)
    return match[1] if match else ""


def _enumerated(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
