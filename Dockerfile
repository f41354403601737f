# The server alone: a static binary, its configuration, no shell. docker build -t oap . ; for two architectures:
# docker buildx build --platform linux/amd64,linux/arm64 -t oap .
# Either is compiled on the platform of the builder, which must be BuildKit (Docker 23 or later) or one that sets the same arguments.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
# The compiler of the image, whatever rust-toolchain.toml adds for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
# Debian keeps one version of pip in a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --break-system-packages ziglang==0.13.0 cargo-zigbuild==0.24.1
WORKDIR /src
COPY . .
ARG TARGETARCH
RUN image/build.sh "$TARGETARCH" /rootfs

FROM scratch
COPY --from=build /rootfs /
WORKDIR /skywalking
USER 1000:1000
VOLUME ["/skywalking/data"]
EXPOSE 12800 11800 1234
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/skywalking/bin/swctl"]
# The first argument makes it ignore others that were meant for the original's.
ENTRYPOINT ["/skywalking/bin/oap", "--lenient"]
