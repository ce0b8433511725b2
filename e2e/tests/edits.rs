//! A thousand edits of one route while a thousand sockets of its other rules and of another route talk on.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::client::fleet::{Accounts, Fleet};
use sheave_e2e::cluster::objects::{Backend, merged, prefix, route, simple, to};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::until;
use std::time::{Duration, Instant};

const EDITS: usize = 1000;
const SOCKETS: usize = 500;

/// The edited route, as of its `n`th edit. Rules `left` and `right` are what live sockets came through: what stands
/// around them, their order and every block of the route change.
fn edited(n: usize, host: &str) -> Value {
    let named = |name: &str, rule: Value| merged(rule, json!({"name": name}));
    let balancer = ["RoundRobin", "LeastConnections", "PowerOfTwoChoices"][n % 3];
    let changing = json!({
        "name": "changing",
        "matches": [{"path": {"value": format!("/changing/{n}")}, "headers": [{"name": "x-edit", "value": n.to_string()}]}],
        "backendRefs": [{"name": "echo", "port": 80, "weight": 1 + n % 7}],
        "loadBalancer": {"type": balancer},
    });
    let (left, right) = (named("left", prefix("/left", "echo")), named("right", prefix("/right", "echo")));
    let rules = match n % 4 {
        0 => json!([left, right, changing]),
        1 => json!([changing, right, left]),
        2 => json!([right, left]),
        _ => json!([left, {"name": format!("new-{n}"), "backendRefs": [to("echo")]}, right, changing]),
    };
    let blocks = json!({
        "timeouts": {"idle": format!("{}s", 60 + n % 100)},
        "messages": {"maxMessageBytes": 65536 + n},
        "drain": {"spread": format!("{}s", 1 + n % 9), "timeout": "20s"},
    });
    route("edited", &merged(json!({"hostnames": [host], "rules": rules}), blocks))
}

async fn account(stage: &Stage, accounts: &Accounts, what: &str) -> Result<()> {
    accounts.undisturbed()?;
    let counts = stage.counts("echo").await?;
    for report in &accounts.0 {
        let count = counts.ids.get(&report.id).copied().unwrap_or_default();
        ensure!(
            count.received == report.sent && count.disordered == 0,
            "{what}: {} sent {} messages, the backend has {count:?}",
            report.id,
            report.sent
        );
    }
    let sent: u64 = accounts.0.iter().map(|report| report.sent).sum();
    println!("{what}: {} sockets, {sent} messages, each came back once and in order", accounts.0.len());
    Ok(())
}

/// Scenario 34.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_thousand_edits_of_a_route_disturb_no_socket() {
    scenario("edits", |stage| async move {
        stage.deploy("echo", &Backend::new("echo").replicas(2)).await?;
        let (a, b) = (format!("a-{}.test", stage.namespace), format!("b-{}.test", stage.namespace));
        stage.serve(&edited(0, &a)).await?;
        stage.serve(&simple("bystander", &b, "echo")).await?;
        stage.answers(&stage.target(&a).path("/left"), 101).await?;
        stage.answers(&stage.target(&b), 101).await?;
        stage.sheave.becomes("sheave_connections_active", &[("route_namespace", &*stage.namespace)], 0.0).await?;
        let descriptors = stage.sheave.sum("process_open_fds", &[]).await?;
        let every = Duration::from_secs(1);
        let others = Fleet::open(&stage.target(&b), "b", SOCKETS, every).await?;
        let sides = [(stage.target(&a), "/left".to_owned()), (stage.target(&a), "/right".to_owned())];
        let own = Fleet::across(&sides, "a", SOCKETS, every).await?;
        let generations = stage.sheave.sum("sheave_config_generation", &[]).await?;
        let began = Instant::now();
        for n in 1..=EDITS {
            stage.apply(&edited(n, &a)).await?;
            ensure!(
                own.alive() == SOCKETS && others.alive() == SOCKETS,
                "after edit {n} {} of A and {} of B are open",
                own.alive(),
                others.alive()
            );
        }
        let took = began.elapsed();
        stage.programmed("edited").await?;
        let last = stage.target(&a).path(format!("/changing/{EDITS}")).header("x-edit", &EDITS.to_string());
        stage.answers(&last, 101).await?;
        // Every socket has talked on after the last edit, too.
        let echoes = own.echoes() + others.echoes();
        until("every socket's next messages", Duration::from_secs(30), || async {
            Ok((own.echoes() + others.echoes() > echoes + 4 * SOCKETS as u64).then_some(()))
        })
        .await?;
        let tables = stage.sheave.sum("sheave_config_generation", &[]).await? - generations;
        println!("{EDITS} edits in {took:.1?}, {tables} tables published by two pods");
        ensure!(tables > 10.0, "the edits have hardly been seen");
        account(&stage, &own.stop().await?, "A's other rules").await?;
        account(&stage, &others.stop().await?, "B").await?;
        // Nothing is left of a thousand sockets.
        stage.sheave.becomes("sheave_connections_active", &[("route_namespace", &*stage.namespace)], 0.0).await?;
        until("the descriptors are given back", Duration::from_secs(30), || async {
            let now = stage.sheave.sum("process_open_fds", &[]).await?;
            if now <= descriptors + 20.0 { Ok(Some(())) } else { Err(anyhow::anyhow!("{now}, before {descriptors}")) }
        })
        .await
    })
    .await;
}
