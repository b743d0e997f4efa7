# CPU, slim, not root:  docker build -t salve-audit .
#   docker run --rm -v "$PWD:/work" salve-audit model.pt data/ --policy salve-policy.toml
FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY salve_audit salve_audit
COPY templates templates
RUN python -m venv /opt/salve
RUN /opt/salve/bin/pip install --no-cache-dir -c constraints.txt torch torchvision --index-url "$TORCH_INDEX"
RUN /opt/salve/bin/pip install --no-cache-dir -c constraints.txt .
RUN /opt/salve/bin/salve-audit --version

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/salve /opt/salve
RUN useradd --create-home --uid 1000 salve
USER salve
WORKDIR /work
ENV PATH=/opt/salve/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["salve-audit"]
