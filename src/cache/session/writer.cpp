#include "cache/session/writer.h"

#include <fmt/format.h>

#include "tqkv/error.h"

namespace tqkv::cache {

SessionWriter::SessionWriter(const std::filesystem::path& path, const Metadata& metadata,
                             std::span<const SessionTensor> layout)
    : file_(path, 0600), layout_(layout), at_(layout.front().bytes) {
  std::vector<NamedShape> shapes;
  for (const SessionTensor& tensor : layout) shapes.push_back(tensor.shape);
  const std::string header = safetensors_header(shapes, metadata);
  const auto bytes = std::as_bytes(std::span(header));
  file_.write_at(0, bytes);
  data_ = header.size();
  checksums_.push_back(checksum(bytes));
  end_tensors();
}

void SessionWriter::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (tensor_ == layout_.size() || bytes.size() > layout_[tensor_].offset + layout_[tensor_].bytes - at_)
    throw Error(ErrorKind::internal, "session file: more bytes came than a tensor has");
  file_.write_at(data_ + at_, bytes);
  running_.add(bytes);
  at_ += bytes.size();
  end_tensors();
}

// Those that are complete, empty ones too.
void SessionWriter::end_tensors() {
  while (tensor_ < layout_.size() && at_ == layout_[tensor_].offset + layout_[tensor_].bytes) {
    checksums_.push_back(running_.take());
    ++tensor_;
  }
}

void SessionWriter::commit() {
  if (tensor_ != layout_.size()) throw Error(ErrorKind::internal, "session file: bytes are missing");
  file_.write_at(data_, std::as_bytes(std::span(checksums_)));
  file_.commit();
}

}  // namespace tqkv::cache
