//! A small HTTP endpoint that answers 200 with its name: what quickstart and labs kill and revive.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::cli::EndpointArgs;
use crate::exit::Failure;
use crate::run;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &EndpointArgs) -> Result<(), Failure> {
    run::runtime()?.block_on(async {
        let mut stop = run::stop_on_signal()?;
        let doing = format!("cannot serve on {}", args.listen);
        let listener = bind(args)
            .await
            .map_err(|error| Failure::runtime(&doing, &error))?;
        let name: Arc<str> = format!("{}\n", args.name).into();
        let app = Router::new().fallback(any(move || async move { name.to_string() }));
        tokio::select! {
            () = stop.wait() => Ok(()),
            () = stdin_closes(), if args.with_stdin => Ok(()),
            ended = axum::serve(listener, app) => ended.map_err(|error| Failure::runtime(&doing, &error)),
        }
    })
}

/// Returns when the other end of standard input is gone.
async fn stdin_closes() {
    let mut rest = Vec::new();
    // An error ends the wait just as the end of the stream does.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

async fn bind(args: &EndpointArgs) -> io::Result<TcpListener> {
    TcpListener::bind(args.listen).await
}
