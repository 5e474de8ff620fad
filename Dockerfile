# CPU by default. For NVIDIA GPUs:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t promptbrush:cuda .
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /app

# letters of most scripts, for the captions of pictures
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-dejavu-core fonts-wqy-microhei \
    && rm -rf /var/lib/apt/lists/*

# torch alone first: it is large, seldom changes, and comes from an index of its own
RUN pip install "torch>=2.6,<2.14" --index-url "${TORCH_INDEX}"

COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY backend backend
COPY demo demo
COPY models models
RUN pip install .

RUN useradd --create-home --uid 1000 promptbrush \
    && install --directory --owner promptbrush /data
USER promptbrush
WORKDIR /data

ENV HOST=0.0.0.0 \
    PORT=9090 \
    PROMPTBRUSH_DATA_DIR=/data \
    MODEL_DIR=/data/models \
    HF_HOME=/data/huggingface

VOLUME /data
EXPOSE 9090

# The web process answers here; `up` and `web` serve it, a worker does not.
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=2)"]

ENTRYPOINT ["promptbrush"]
CMD ["up"]
