#!/usr/bin/env bash
# Runs the end-to-end suite: a kind cluster (or the one that KUBECONFIG names), both images, the chart, every group of
# scenarios one after the other. Can be run again on the same cluster. The cluster stays; `make e2e-clean` removes it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
fail() { echo "make e2e: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing: $2"; }

need docker "install Docker; it builds the images and runs kind's nodes"
need kubectl "install it, see https://kubernetes.io/docs/tasks/tools"
need helm "install it, see https://helm.sh/docs/intro/install"
need cargo "install Rust 1.91 or newer"
docker info >/dev/null 2>&1 || fail "Docker does not answer: start it, and see that this user may talk to it"

cluster=${E2E_CLUSTER:-sheave}
export E2E_CLUSTER=$cluster E2E_NAMESPACE=${E2E_NAMESPACE:-sheave-system} E2E_RELEASE=${E2E_RELEASE:-sheave}
export KUBECACHEDIR=$PWD/target/e2e-kubectl-cache
export E2E_CHART=$PWD/charts/sheave E2E_VALUES=$PWD/e2e/values.yaml

if [ -n "${KUBECONFIG:-}" ] && [ "${E2E_KIND:-}" != true ]; then
  say "the cluster that KUBECONFIG names"
  kubectl version >/dev/null 2>&1 || fail "the cluster that KUBECONFIG names does not answer"
  [ -n "${E2E_WS:-}" ] && [ -n "${E2E_WSS:-}" ] ||
    fail "set E2E_WS and E2E_WSS to the addresses (host:port) at which Sheave's Service is reached in your cluster"
  echo "images sheave:dev and sheave-e2e:dev must be there already; outage and kills need kind and are left to it"
  foreign=true
else
  need kind "install it, see https://kind.sigs.k8s.io"
  foreign=false
  export E2E_KIND=true KUBECONFIG=$PWD/target/e2e-kubeconfig
  mkdir -p target
  if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    say "the kind cluster $cluster is there"
    kind export kubeconfig --name "$cluster" --kubeconfig "$KUBECONFIG" 2>/dev/null
  else
    say "creating the kind cluster $cluster"
    kind create cluster --name "$cluster" --config e2e/kind.yaml --kubeconfig "$KUBECONFIG" --wait 120s \
      ${KIND_IMAGE:+--image "$KIND_IMAGE"}
  fi
fi

if [ "$foreign" = false ] && [ -z "${E2E_SKIP_IMAGES:-}" ]; then
  say "building the images sheave:dev and sheave-e2e:dev"
  make image
  make e2e-image
  kind load docker-image sheave:dev sheave-e2e:dev --name "$cluster"
fi

say "installing the chart"
kubectl get crd referencegrants.gateway.networking.k8s.io >/dev/null 2>&1 || kubectl apply -f e2e/referencegrant.yaml
# Namespaces of a run that was cut short.
kubectl delete namespace --selector sheave.dev/e2e=true --wait=false >/dev/null
helm upgrade --install "$E2E_RELEASE" charts/sheave -n "$E2E_NAMESPACE" --create-namespace --values e2e/values.yaml \
  --wait --timeout 120s
# The tag is the same for every build: pods that ran before do not have this one.
kubectl -n "$E2E_NAMESPACE" rollout restart deployment/"$E2E_RELEASE"
kubectl -n "$E2E_NAMESPACE" rollout status deployment/"$E2E_RELEASE" --timeout 180s
# What kubectl knew of the cluster's kinds before the chart, or of another cluster at the same address, is out of date.
rm -rf "$KUBECACHEDIR"

# Group and how many scenarios of it run at a time. Those that roll, kill or starve Sheave or the API server run alone.
all="itself:3 install:4 routing:4 tls:4 life:4 admission:4 wrong_objects:4 edits:1 rolling:1 kills:1 outage:1 scale:1 release:1"
[ "$foreign" = false ] || all="install:4 routing:4 tls:4 life:4 admission:4 wrong_objects:4 edits:1 rolling:1 scale:1"
groups=${E2E_GROUPS:-$all}
for group in ${E2E_WITHOUT:-}; do
  groups=$(tr ' ' '\n' <<<"$groups" | grep -v "^$group:" | tr '\n' ' ')
done
started=$(date +%s)
failed=()
say "building the suite"
cargo test -p sheave -p sheave-e2e --quiet --no-run $(for group in $groups; do echo --test "${group%%:*}"; done)
for group in $groups; do
  name=${group%%:*} threads=${group##*:}
  say "$name ($(($(date +%s) - started)) s)"
  RUST_BACKTRACE=0 cargo test -p sheave -p sheave-e2e --quiet --test "$name" -- --ignored --nocapture --test-threads="$threads" ${E2E_FILTER:-} ||
    failed+=("$name")
done
say "$(($(date +%s) - started)) s in all"
[ ${#failed[@]} -eq 0 ] || fail "groups failed: ${failed[*]}"
