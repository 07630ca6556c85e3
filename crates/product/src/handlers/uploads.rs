//! Files on their way into a knowledge source.

use crate::Call;
use crate::id::UploadId;
use crate::knowledge::extract::Format;
use crate::uploads::{Upload, Uploads};
use bytes::Bytes;
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Code, Outcome, Problem};
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;

/// Most bytes of a file. The body may have some more, which divide and name it.
const LARGEST: usize = 25 << 20;
/// Longest name of a file, in characters.
const LONGEST_NAME: usize = 255;

/// Keeps a file for a day, or until a source takes it.
pub async fn create(mut call: Call) -> Outcome<Answer> {
    let (name, content_type, content) = file(&mut call).await?;
    if content.is_empty() {
        return Err(Problem::body("/file", "is empty"));
    }
    let format =
        Format::of(&content_type, &name, &content).map_err(|why| Problem::body("/file", why.to_string()))?;
    let (id, size): (UploadId, usize) = (call.verifier.id(call.now)?, content.len());
    let upload = Upload {
        filename: name.clone(),
        content_type: format.media_type().to_owned(),
        content: content.into(),
    };
    Uploads(call.store()).keep(call.organization()?, id, upload, call.now).await?;
    Ok(Answer::data(json!({
        "fileId": id.to_string(),
        "filename": name,
        "contentType": format.media_type(),
        "sizeBytes": size,
    })))
}

/// The one part `file` of a body: its name, its type and its bytes.
async fn file(call: &mut Call) -> Outcome<(String, String, Bytes)> {
    let broken =
        |_| Problem::new(Code::MalformedRequest, "The body is not valid multipart/form-data (RFC 7578).");
    let boundary = multer::parse_boundary(call.content_type()).map_err(broken)?;
    // Taken, so that no more than two copies of the file are in memory at once.
    let body = stream::iter([Ok::<Bytes, Infallible>(std::mem::take(&mut call.sent))]);
    let mut parts = multer::Multipart::new(body, boundary);
    let mut found = None;
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if name != "file" || found.is_some() {
            return Err(Problem::body("/file", "must be the only part, and be sent once"));
        }
        // Browsers of another age send a whole path.
        let filename = part.file_name().unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
        let filename: String = filename.chars().filter(|it| !it.is_control()).take(LONGEST_NAME).collect();
        let content_type = part.content_type().map(|it| it.to_string()).unwrap_or_default();
        found = Some((filename, content_type, part.bytes().await.map_err(broken)?));
    }
    let (name, content_type, content) = found.ok_or_else(|| Problem::body("/file", "is required"))?;
    if name.is_empty() {
        return Err(Problem::body("/file", "must have a file name"));
    }
    if content.len() > LARGEST {
        return Err(Problem::new(
            Code::PayloadTooLarge,
            format!("The file is too long; at most {LARGEST} bytes are accepted."),
        ));
    }
    Ok((name, content_type, content))
}
