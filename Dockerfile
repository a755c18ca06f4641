# syntax=docker/dockerfile:1
# Two stages: the first has compilers, clang and headers, the second only Node and what npm pack puts into the package.
ARG NODE=node:24.21.0-bookworm-slim

FROM ${NODE} AS build
WORKDIR /build
COPY package.json package-lock.json tsconfig.json README.md ARCHITECTURE.md LICENSE ./
COPY native native
COPY bpf bpf
COPY src src
COPY collector-config collector-config
# npm pack runs the set-up: it installs system and npm packages, says which, and builds dist/.
RUN npm pack --pack-destination /tmp \
 && mkdir /app && tar -xzf /tmp/wirespan-*.tgz --strip-components=1 -C /app \
 && cp package-lock.json /app/ && cd /app \
 && npm ci --omit=dev --ignore-scripts --no-audit --no-fund && rm package-lock.json

FROM ${NODE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="wirespan" \
      org.opencontainers.image.description="Sidecar-free OpenTelemetry exporter: HTTP and SQL, encrypted or not, from the kernel to OTLP spans" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /app /app
ENV NODE_ENV=production
# Root with few capabilities (BPF, PERFMON, NET_ADMIN, SYS_PTRACE, DAC_READ_SEARCH; see README.md), in the host's pid namespace, with a
# read-only root file system. Nothing is written but what options ask for.
USER 0:0
STOPSIGNAL SIGTERM
# Without a shell or npm in between: signals reach the agent itself.
ENTRYPOINT ["node", "--max-semi-space-size=8", "/app/dist/main.js"]
CMD ["agent"]
