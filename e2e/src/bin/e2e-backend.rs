//! The scriptable backend; see [`sheave_e2e::backend`].

use sheave_e2e::backend::{self, Settings};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    backend::run(Settings::from_environment()?).await
}
