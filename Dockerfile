# syntax=docker/dockerfile:1
# Two stages: the first has compilers, clang and headers; the image itself holds Node, the libraries it is linked against and the
# package with what it depends on, and nothing else: no shell, no package manager, no compiler. x86-64 only: the addon and the BPF
# programs read registers of x86-64.
ARG NODE=node:24.21.0-bookworm-slim

FROM ${NODE} AS build
WORKDIR /build
# The list of system packages stands in the set-up; they are all that is installed as root.
COPY native/setup native/setup
RUN ["node", "--input-type=module", "--eval", "import { BUILD, ensurePackages } from './native/setup/packages.mjs'; ensurePackages(BUILD, 'build')"]
COPY . .
RUN mkdir /image && chown -R node:node /build /image
USER node
RUN ["node", "native/setup/rootfs.mjs", "/image/rootfs"]

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="wirespan" \
      org.opencontainers.image.description="Sidecar-free OpenTelemetry exporter: HTTP, gRPC and SQL, encrypted or not, from the kernel to OTLP spans" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build --chown=0:0 /image/rootfs/ /
ENV NODE_ENV=production \
    PATH=/usr/local/bin
# Root with few capabilities (BPF, PERFMON, NET_ADMIN, SYS_PTRACE, DAC_READ_SEARCH; see docs/operations/security.md), in the host's pid namespace, with a
# read-only root file system: a user without root gets no capabilities from Kubernetes. Nothing is written but what options ask for.
USER 0:0
STOPSIGNAL SIGTERM
# Without a shell or npm in between: signals reach the agent itself. Node's options stand in the program's first line.
ENTRYPOINT ["/usr/local/bin/wirespan"]
CMD ["agent"]
