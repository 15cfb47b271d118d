//! `UserService` and `PaymentService`: `services LISTEN POSTGRES`, for example
//! `services 127.0.0.1:50051 "host=/run/postgresql user=pay dbname=pay"`. The tables are made if they are missing.

mod payment;
mod shop;
mod users;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use payment::Payments;
use shop::payment_service_server::PaymentServiceServer;
use shop::user_service_server::UserServiceServer;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use users::Users;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [listen, postgres] = &args[..] else {
        eprintln!("usage: services LISTEN POSTGRES");
        return ExitCode::from(2);
    };
    match run(listen, postgres).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(listen: &str, postgres: &str) -> Result<(), Box<dyn Error>> {
    let payments = Payments::open(postgres).await?;
    let listener = TcpListener::bind(listen.parse::<SocketAddr>()?).await?;
    println!("listening on {}", listener.local_addr()?);
    Server::builder()
        .add_service(UserServiceServer::new(Users::default()))
        .add_service(PaymentServiceServer::new(payments))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}
