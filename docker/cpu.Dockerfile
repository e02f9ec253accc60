# All stages on processors, the page included. From the repository's folder:
#   docker build -f docker/cpu.Dockerfile -t catalogue .
#   docker run --rm -v "$PWD/data/store:/app/data/store" catalogue preprocessing clean --help
#   docker run --rm -v "$PWD/data/store:/app/data/store" -p 127.0.0.1:7860:7860 catalogue \
#     inference serve --host 0.0.0.0 --run data/store/runs/sample --catalogue data/store/clean-sample
FROM python:3.12-slim

# pip's own torch for Linux carries CUDA, gigabytes of it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV HF_HOME=/app/data/store/huggingface \
    HOME=/tmp \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app
# The largest layer first: a changed line of code does not load it again.
COPY constraints.txt ./
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY . .
RUN pip install -c constraints.txt -e '.[train,evaluate,ui]' \
    && chmod 777 data/store

# Nobody in particular: with --user "$(id -u)" what it writes is yours.
USER 1000
EXPOSE 7860
ENTRYPOINT ["python", "-m"]
CMD ["inference", "--help"]
