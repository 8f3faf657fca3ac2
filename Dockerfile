# syntax=docker/dockerfile:1
# The same content as `make image`, for those who build with Docker.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build

# Modules first: they change rarely, so this layer is reused.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download

# With .git: Go writes the commit into the programs.
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/cache GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=auto -ldflags "-s -w -X main.set=$VERSION" -o /out/ ./cmd/manager ./cmd/kubectl-connpool

# No file but the programs, and a user without rights.
FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="connpool" \
      org.opencontainers.image.description="Keeps pools of warm connections" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/manager"]
