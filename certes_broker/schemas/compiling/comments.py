"""What is kept of a file's source in its descriptor: the comments."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorProto, SourceCodeInfo


def only_comments(file: FileDescriptorProto) -> None:
    """Takes out of a file's source information whatever is no comment on an element.

    That is nine tenths of it: the places of all tokens, and comments that stand alone, such as licences. Characters
    that no text should show are replaced by spaces.
    """
    if not file.HasField("source_code_info"):
        return
    kept = [_cleaned(place) for place in file.source_code_info.location if _has_comment(place)]
    file.ClearField("source_code_info")
    if kept:
        file.source_code_info.location.extend(kept)


def _has_comment(place: SourceCodeInfo.Location) -> bool:
    return bool(place.leading_comments or place.trailing_comments)


def _cleaned(place: SourceCodeInfo.Location) -> SourceCodeInfo.Location:
    cleaned = SourceCodeInfo.Location(path=place.path, span=place.span)
    if place.HasField("leading_comments"):
        cleaned.leading_comments = _text(place.leading_comments)
    if place.HasField("trailing_comments"):
        cleaned.trailing_comments = _text(place.trailing_comments)
    return cleaned


def _text(comment: str) -> str:
    return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in comment)
