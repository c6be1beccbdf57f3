//! Asks about a picture, here one made of bytes in the program. Run it with `cargo run --example image`.

mod stand_in;

use aimlapi::{ChatRequest, Client, ContentPart, Message};

/// A PNG of one blue pixel. A real program has `std::fs::read("cat.jpg")?` here.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\
    \0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\
    \0\0\0\x0cIDATx\xdac0h\xf8\0\0\x02\x84\x01\xa11\x8b\xc8\xc3\
    \0\0\0\0IEND\xaeB`\x82";

fn main() -> aimlapi::Result<()> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let question = Message::user([
        ContentPart::text("Which colour is this?"),
        // PNG, JPEG, GIF or WEBP, told by the first bytes. For one on the web: image_url().
        ContentPart::image_bytes(PICTURE)?.detail("low"),
    ]);
    let reply = client.send(&ChatRequest::new("openai/gpt-4o-mini", question).max_tokens(100))?;
    println!("{}", reply.text());
    Ok(())
}
