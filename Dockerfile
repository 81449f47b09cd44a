# perler_jax for the CPU, from its wheel:
#   docker build -t perler_jax .
#   docker run --rm -v "$PWD:/data" perler_jax fit cells.h5ad reference.h5ad -o fit.npz
FROM python:3.12-slim AS wheel
COPY . /source
RUN python -m pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
COPY --from=wheel /wheels /wheels
RUN python -m pip install --no-cache-dir "$(ls /wheels/perler_jax-*.whl)[explore]" && rm -r /wheels
# Any user may run it; compiled programs are kept for the life of the container.
ENV XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
ENTRYPOINT ["perler-jax"]
CMD ["--help"]
