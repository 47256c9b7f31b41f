# One image for a pod (`session-service serve`), the migrate Job (`session-service migrate`) and a simulator
# (`exchange-simulator`). Built by `make image`. All stages stand on one base: the venv names its interpreter.
ARG PYTHON_IMAGE=python:3.13-slim

# The page that a pod serves. Node.js comes from the package index too, and stays in this stage.
FROM ${PYTHON_IMAGE} AS page
WORKDIR /src
RUN ["python", "-m", "venv", "/opt/node"]
COPY requirements-browser.lock ./
RUN ["/opt/node/bin/python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-browser.lock"]
COPY scripts/browser.py ./scripts/
COPY browser ./browser
RUN ["/opt/node/bin/python", "scripts/browser.py", "build"]

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN ["python", "-m", "venv", "/opt/session-service"]
# The lock alone first: as long as it is the same, what it names need not be installed again.
COPY requirements-image.lock ./
RUN ["/opt/session-service/bin/python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-image.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY exchange_api ./exchange_api
COPY exchange_simulator ./exchange_simulator
COPY sql ./sql
COPY session_service ./session_service
COPY --from=page /src/session_service/api/page ./session_service/api/page
RUN ["/opt/session-service/bin/python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--no-deps", "--no-build-isolation", "."]
# What only builds does not run.
RUN ["/opt/session-service/bin/python", "-m", "pip", "uninstall", "--yes", "setuptools", "pip"]

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="session-service" \
      org.opencontainers.image.description="Live sessions, each with an exchange simulator of its own" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/session-service /opt/session-service
# Nothing is written at run time, so that the root file system can be read-only; bytecode came with the installation.
ENV PATH=/opt/session-service/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, since Kubernetes cannot tell whether a name is root's.
USER 10001:10001
WORKDIR /
EXPOSE 8080 9090 50055
# The processes handle their signals themselves, as process 1 too.
CMD ["session-service", "serve"]
