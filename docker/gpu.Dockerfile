# All stages on an NVIDIA GPU, with Unsloth. The host needs the driver and the NVIDIA container
# toolkit; CUDA comes with torch. From the repository's folder:
#   docker build -f docker/gpu.Dockerfile -t catalogue-gpu .
#   docker run --rm --gpus all -v "$PWD/data/store:/app/data/store" catalogue-gpu training run \
#     --config training/recipes/rtx3060.yaml --subset data/store/subsets/10k \
#     --out data/store/runs/10k --plan auto
FROM python:3.12-slim

ENV HF_HOME=/app/data/store/huggingface \
    HOME=/tmp \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    UNSLOTH_DISABLE_STATISTICS=1

# Triton compiles its kernels when they are first used.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
# The largest layer first: a changed line of code does not load it again.
COPY constraints.txt ./
RUN pip install "$(grep '^torch==' constraints.txt)"
COPY . .
RUN pip install -c constraints.txt -e '.[gpu,evaluate,ui]' \
    && chmod 777 data/store

# Nobody in particular: with --user "$(id -u)" what it writes is yours.
USER 1000
EXPOSE 7860
ENTRYPOINT ["python", "-m"]
CMD ["training", "--help"]
