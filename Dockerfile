# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build

# Modules first: they change rarely, so this layer is reused.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download

COPY api/ api/
COPY client/ client/
COPY cmd/ cmd/
COPY internal/ internal/
ARG TARGETOS TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/cache GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.set=$VERSION" -o /manager ./cmd/manager

# No shell, no package manager, and a user without rights.
FROM gcr.io/distroless/static:nonroot
ARG VERSION=dev
LABEL org.opencontainers.image.title="connpool" \
      org.opencontainers.image.description="Keeps pools of warm connections" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /manager /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
