# A bundle behind HTTP: no torch, no root, nothing written to disk. See docs/deploy.md.
#
#   docker build -t potstill-serve .
#   docker run --read-only --cap-drop ALL -p 8080:8080 -e POTSTILL_SERVE_KEY -v "$PWD/runs/demo/bundle:/bundle:ro" potstill-serve
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY potstill potstill
# What serving imports, and nothing that trains: tests/test_container.py serves a bundle with these alone.
RUN python3 -m venv /opt/potstill \
    && /opt/potstill/bin/pip install --no-cache-dir --no-compile --constraint constraints.txt \
        click httptools jinja2 numpy onnxruntime pydantic rich starlette tokenizers uvicorn uvloop \
    && /opt/potstill/bin/pip install --no-cache-dir --no-compile --no-deps . \
    && /opt/potstill/bin/pip uninstall --yes --quiet hf-xet setuptools pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="potstill serve" \
      org.opencontainers.image.description="Serves the bundles of potstill over HTTP, on the CPU" \
      org.opencontainers.image.source="https://github.com/potstill/potstill" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/potstill /opt/potstill
ENV PATH=/opt/potstill/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["potstill", "serve", "--host", "0.0.0.0", "--port", "8080"]
CMD ["/bundle"]
