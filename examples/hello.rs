//! One question and its answer, in five lines. Run it with `cargo run --example hello`.

mod stand_in;

fn main() -> aimlapi::Result<()> {
    stand_in::unless_configured();
    let client = aimlapi::Client::from_env()?;
    let reply = client.chat(aimlapi::GEMMA_2_27B_IT, "Why is the sky blue?")?;
    println!("{}", reply.text());
    Ok(())
}
