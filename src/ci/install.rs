//! How a job comes by polyarch: fetched from where `[ci.install]` says, and looked at before it runs.

use crate::config::InstallSetting;
use crate::defence::{Defence, stands};

use super::yaml::Map;

/// The variables that the script reads.
pub(super) fn variables(install: &InstallSetting) -> Map {
    let digest = |target: &str| install.sha256.get(target).cloned().unwrap_or_default();
    Map::default()
        .with("URL_X86_64", install.url.of("x86_64-unknown-linux-musl", "amd64"))
        .with("SHA256_X86_64", digest("x86_64"))
        .with("URL_AARCH64", install.url.of("aarch64-unknown-linux-musl", "arm64"))
        .with("SHA256_AARCH64", digest("aarch64"))
}

/// Fetches the program for this machine and looks at its digest; `known` makes the folder `$bin` known to what follows.
pub(super) fn script(known: &str) -> String {
    let look = if stands(Defence::InstallDigest) { LOOK } else { "" };
    format!("{FETCH}{look}{ALLOW}{known}\n")
}

const FETCH: &str = r#"set -euo pipefail
case "$(uname -m)" in
  x86_64) url=$URL_X86_64 sha256=$SHA256_X86_64 ;;
  aarch64 | arm64) url=$URL_AARCH64 sha256=$SHA256_AARCH64 ;;
  *) echo "no polyarch for $(uname -m)" >&2; exit 3 ;;
esac
bin=$(mktemp -d)
curl --proto '=https' --tlsv1.2 --fail --silent --show-error --location --retry 5 \
  --output "$bin/polyarch" "$url"
"#;
const LOOK: &str = "echo \"$sha256  $bin/polyarch\" | sha256sum --check --quiet\n";
const ALLOW: &str = "chmod 755 \"$bin/polyarch\"\n";
