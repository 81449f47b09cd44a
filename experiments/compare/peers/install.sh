#!/usr/bin/env bash
# install.sh NAME...: each peer by its own documented command into .peers/NAME, which git ignores.
#
# PYTHON names another interpreter, TORCH a build of PyTorch without CUDA where the registry's newest is not wanted
# (e.g. TORCH=torch==2.13.0). SpaGE and the released Perler are in no registry: give the path of a checkout in
# SPAGE_HOME or PERLER_HOME; this makes an environment with what they import.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-python3}
TORCH=${TORCH:-torch}

environment() { # NAME PACKAGE...
  local name=$1
  shift
  "$PYTHON" -m venv ".peers/$name"
  ".peers/$name/bin/python" -m pip install --quiet "$@"
}

[ $# -gt 0 ] || { echo "usage: $0 tangram|novosparc|moscot|liger|gimvi|seurat|spage|perler_released ..." >&2; exit 2; }
mkdir -p .peers
for name in "$@"; do
  case $name in
    tangram) environment tangram "$TORCH" tangram-sc ;;
    novosparc) environment novosparc novosparc ;;
    moscot) environment moscot moscot ;;
    liger) environment liger pyliger ;;
    gimvi) environment gimvi "$TORCH" scvi-tools ;;
    spage) environment spage numpy pandas scipy scikit-learn ;;
    perler_released) environment perler_released "numpy<2" "scipy<1.8" pandas joblib scikit-learn matplotlib ;;
    seurat)
      # Debian and Ubuntu build it; elsewhere R does, which takes long.
      if command -v apt-get > /dev/null; then
        apt-get install --yes --no-install-recommends r-cran-seurat
      else
        Rscript -e 'install.packages("Seurat", repos = "https://cloud.r-project.org")'
      fi
      ;;
    *) echo "$name: expected one of tangram, novosparc, moscot, liger, gimvi, seurat, spage, perler_released" >&2; exit 2 ;;
  esac
  echo "$name: installed"
done
