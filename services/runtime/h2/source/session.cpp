// session.h's work: nghttp2's callbacks, and gRPC's framing of messages on top.
#include "session.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

namespace {

using Name = std::string_view;

constexpr size_t PREFIX = 5, MOST_METADATA = 16 * 1024, FIELD_OVERHEAD = 32;  // of a field: RFC 9113, 6.5.2
constexpr size_t FRAME_HEAD = 9, PIECE = 128 * 1024;
constexpr uint32_t STREAM_WINDOW = 1 << 20, CONNECTION_WINDOW = 1 << 26;
// Calls that may be taken back at once, and a second. The library's own 33 a second would end busy connections.
constexpr uint64_t RESETS = 100'000, RESETS_A_SECOND = 20'000;
constexpr int RESOURCE_EXHAUSTED = 8, UNIMPLEMENTED = 12, INTERNAL = 13;
const std::string ENCODINGS = "identity, deflate, gzip";

nghttp2_nv pair(Name name, Name value, uint8_t flags = NGHTTP2_NV_FLAG_NONE) {
    const auto at = [](Name text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); };
    return {at(name), at(value), name.size(), value.size(), flags};
}

std::vector<nghttp2_nv> pairs(const Pairs& given, bool opening) {
    std::vector<nghttp2_nv> all;
    if (opening) all = {pair(":status", "200"), pair("content-type", "application/grpc")};
    // Ids are new in every call: indexed, they would push out what repeats.
    for (const auto& [name, value] : given)
        all.push_back(pair(name, value, name == "x-request-id" ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE));
    return all;
}

// Of HTTP or gRPC itself: no caller's metadata.
bool reserved(Name name) {
    return name[0] == ':' || name == "te" || name == "grpc-accept-encoding" || name == "accept-encoding";
}

bool readable(Name encoding) {
    return encoding.empty() || encoding == "identity" || encoding == "gzip" || encoding == "deflate";
}

size_t length_of(Name prefix) {
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(prefix[i])); };
    return byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
}

void append(std::string& out, Name message) {
    const auto n = static_cast<uint32_t>(message.size());
    const char prefix[PREFIX] = {0, char(n >> 24), char(n >> 16), char(n >> 8), char(n)};
    out.reserve(out.size() + PREFIX + message.size());
    out.append(prefix, PREFIX).append(message);
}

}  // namespace

Session::Session(Told& told, const Paths& unary, size_t most_message)
    : told_(told), unary_(unary), most_message_(most_message) {
    nghttp2_session_callbacks* on;
    nghttp2_option* option;
    if (nghttp2_session_callbacks_new(&on) || nghttp2_option_new(&option)) throw std::bad_alloc();
    nghttp2_session_callbacks_set_on_begin_headers_callback(on, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(on, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(on, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(on, on_data);
    nghttp2_session_callbacks_set_send_data_callback(on, pour);
    nghttp2_session_callbacks_set_on_frame_send_callback(on, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(on, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    if (nghttp2_option_set_stream_reset_rate_limit)
        nghttp2_option_set_stream_reset_rate_limit(option, RESETS, RESETS_A_SECOND);
    const int failed = nghttp2_session_server_new2(&session_, on, this, option);
    nghttp2_session_callbacks_del(on);
    nghttp2_option_del(option);
    if (failed) throw std::bad_alloc();
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MOST_METADATA}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
}

void Session::feed(const uint8_t* data, size_t size) {
    const ssize_t taken = nghttp2_session_mem_recv(session_, data, size);
    if (taken < 0) throw std::runtime_error(nghttp2_strerror(static_cast<int>(taken)));
}

std::string_view Session::drain() {
    going_.clear();
    const uint8_t* data;
    for (ssize_t n; going_.size() < PIECE && (n = nghttp2_session_mem_send(session_, &data)) > 0;)
        going_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(n));
    return going_;
}

void Session::ping() {
    pinged_ = true;
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}

void Session::go_away() {
    leaving_ = true;
    nghttp2_submit_shutdown_notice(session_);
    ping();
}

void Session::pong() {
    pinged_ = false;
    if (!leaving_) return;
    // Whoever answered has read the notice before: what it sent until then is let in.
    const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
}

void Session::head(int32_t id, const Pairs& metadata) {
    Stream* stream = find(id);
    if (!stream || stream->begun) return;
    stream->begun = true;
    const auto all = pairs(metadata, true);
    const nghttp2_data_provider provider{{.ptr = stream}, give};
    nghttp2_submit_response(session_, id, all.data(), all.size(), &provider);
}

size_t Session::send(int32_t id, std::string_view message) {
    Stream* stream = find(id);
    if (!stream || stream->finished) return 0;
    append(stream->out, message);
    nghttp2_session_resume_data(session_, id);
    return stream->out.size() - stream->sent;
}

void Session::finish(int32_t id, Pairs trailers) {
    Stream* stream = find(id);
    if (!stream || stream->finished) return;
    stream->finished = true;
    stream->trailers = std::move(trailers);
    if (stream->begun) {
        nghttp2_session_resume_data(session_, id);
    } else {
        const auto all = pairs(stream->trailers, true);
        nghttp2_submit_response(session_, id, all.data(), all.size(), nullptr);
    }
}

void Session::read(int32_t id, size_t bytes) {
    Stream* stream = find(id);
    if (!stream) return;
    stream->unread -= std::min(bytes, stream->unread);
    if (stream->unread >= STREAM_WINDOW || !stream->held) return;
    nghttp2_session_consume_stream(session_, id, stream->held);
    stream->held = 0;
}

Stream* Session::find(int32_t id) {
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : found->second.get();
}

int Session::on_begin(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->category != NGHTTP2_HCAT_REQUEST) return 0;
    auto& made = of(self).streams_[frame->hd.stream_id] = std::make_unique<Stream>();
    made->id = frame->hd.stream_id;
    return 0;
}

int Session::on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* self) {
    Stream* stream = of(self).find(frame->hd.stream_id);
    if (!stream) return 0;
    const Name key(reinterpret_cast<const char*>(name), name_size);
    const Name text(reinterpret_cast<const char*>(value), value_size);
    stream->metadata_bytes += name_size + value_size + FIELD_OVERHEAD;
    if (stream->metadata_bytes > MOST_METADATA) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (key == ":path") stream->path = text;
    else if (key == "content-type") stream->content = text;
    else if (key == "grpc-timeout") stream->timeout = text;
    else if (key == "grpc-encoding") stream->encoding = text;
    else if (!reserved(key)) stream->metadata.emplace_back(key, text);
    return 0;
}

int Session::on_frame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK) of(self).pong();
    Stream* stream = of(self).find(frame->hd.stream_id);
    if (!stream) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->category == NGHTTP2_HCAT_REQUEST) of(self).opened(*stream);
    const bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) of(self).complete(*stream);
    return 0;
}

int Session::on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* self) {
    nghttp2_session_consume_connection(session, size);
    Stream* stream = of(self).find(id);
    if (!stream || stream->finished) return 0;
    stream->in.append(reinterpret_cast<const char*>(data), size);
    // A caller who sends faster than is read waits; the rest of a message is always let in.
    if (stream->unread < STREAM_WINDOW) nghttp2_session_consume_stream(session, id, size);
    else stream->held += size;
    of(self).came(*stream);
    return 0;
}

int Session::on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    Stream* stream = of(self).find(frame->hd.stream_id);
    const bool last = stream && stream->finished && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    // All is said; what the caller would still send is not wanted (RFC 9113, 8.1).
    if (last && !stream->ended) nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
    return 0;
}

int Session::on_close(nghttp2_session*, int32_t id, uint32_t, void* self) {
    Stream* stream = of(self).find(id);
    if (!stream) return 0;
    if (stream->finished) of(self).told_.room(*stream);
    else of(self).told_.reset(*stream);
    of(self).streams_.erase(id);
    return 0;
}

// How much of a reply goes into the next frame; `pour` writes it.
ssize_t Session::give(nghttp2_session* session, int32_t id, uint8_t*, size_t most, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
    auto& stream = *static_cast<Stream*>(source->ptr);
    const size_t size = std::min(most, stream.out.size() - stream.sent);
    if (!size && !stream.finished) return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (stream.finished && stream.sent + size == stream.out.size()) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto all = pairs(stream.trailers, false);
        nghttp2_submit_trailer(session, id, all.data(), all.size());
    }
    return static_cast<ssize_t>(size);
}

int Session::pour(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size, nghttp2_data_source* source,
                  void* self) {
    auto& stream = *static_cast<Stream*>(source->ptr);
    of(self).going_.append(reinterpret_cast<const char*>(head), FRAME_HEAD).append(stream.out, stream.sent, size);
    stream.sent += size;
    if (stream.sent < stream.out.size()) return 0;
    stream.out.clear();
    stream.sent = 0;
    if (!stream.finished) of(self).told_.room(stream);
    return 0;
}

void Session::opened(Stream& stream) {
    stream.unary = unary_.count(stream.path);
    if (stream.content.rfind("application/grpc", 0)) {
        stream.finished = true;
        const auto status = pair(":status", "415");
        nghttp2_submit_response(session_, stream.id, &status, 1, nullptr);
    } else if (!readable(stream.encoding)) {
        finish(stream.id, {{"grpc-status", std::to_string(UNIMPLEMENTED)},
                           {"grpc-message", "grpc-encoding is none of " + ENCODINGS},
                           {"grpc-accept-encoding", ENCODINGS}});
    } else if (!stream.unary) {
        told_.begin(stream);
    }
}

// Tells the messages that are whole; a unary one waits for the end of its request.
void Session::came(Stream& stream) {
    size_t at = 0;
    while (stream.in.size() - at >= PREFIX) {
        const size_t size = length_of(std::string_view(stream.in).substr(at));
        if (too_large(stream, size)) return;
        if (stream.unary || stream.in.size() - at < PREFIX + size) {
            // Room for all of it at once; what is claimed and never sent is never touched.
            stream.in.reserve(at + PREFIX + size);
            break;
        }
        stream.unread += size;
        told_.message(stream, std::string_view(stream.in).substr(at + PREFIX, size), stream.in[at]);
        at += PREFIX + size;
    }
    stream.in.erase(0, at);
}

void Session::complete(Stream& stream) {
    stream.ended = true;
    if (stream.finished) return;
    if (!stream.unary) return told_.end(stream);
    if (stream.in.size() < PREFIX || stream.in.size() != PREFIX + length_of(stream.in))
        return refuse(stream, INTERNAL, "the request is not one whole message");
    told_.call(stream, std::string_view(stream.in).substr(PREFIX), stream.in[0]);
    std::string().swap(stream.in);
}

bool Session::too_large(Stream& stream, size_t size) {
    if (size <= most_message_) return false;
    refuse(stream, RESOURCE_EXHAUSTED,
           "a message of " + std::to_string(size) + " bytes came; the limit is " + std::to_string(most_message_));
    return true;
}

// Ends a call that its owner knows of as a stream, or not at all.
void Session::refuse(Stream& stream, int status, const std::string& why) {
    finish(stream.id, {{"grpc-status", std::to_string(status)}, {"grpc-message", why}});
    std::string().swap(stream.in);
    if (!stream.unary) told_.reset(stream);
}
