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
// What one connection may leave with us: requests that are not whole or not read, or replies that it does not take.
constexpr size_t MOST_KEPT = 1 << 28;
constexpr size_t PER_MESSAGE = 64;  // what a message costs that has no bytes
constexpr size_t AHEAD = 8;         // times what came: as much memory is asked for, whatever a message claims to be
constexpr int DEADLINE_EXCEEDED = 4, RESOURCE_EXHAUSTED = 8, UNIMPLEMENTED = 12, INTERNAL = 13;
const std::string ONE_MESSAGE = "the request is not one whole message";
const std::string ENCODINGS = "identity, deflate, gzip";

// A callback for C's frames, which no exception may cross: one ends the connection.
template <auto work> struct Safe;
template <typename Result, typename... Given, Result (*work)(Given...)> struct Safe<work> {
    static Result call(Given... given) noexcept {
        try {
            return work(given...);
        } catch (...) {
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    }
};

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
    return name.starts_with(':') || name == "te" || name == "grpc-accept-encoding" || name == "accept-encoding";
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

Session::Session(Told& told, const Paths& unary, size_t most_message, uint32_t most_streams)
    : told_(told), unary_(unary), most_message_(most_message), most_kept_(std::max(MOST_KEPT, 2 * most_message)) {
    nghttp2_session_callbacks* on;
    nghttp2_option* option;
    if (nghttp2_session_callbacks_new(&on) || nghttp2_option_new(&option)) throw std::bad_alloc();
    nghttp2_session_callbacks_set_on_begin_headers_callback(on, Safe<on_begin>::call);
    nghttp2_session_callbacks_set_on_header_callback(on, Safe<on_header>::call);
    nghttp2_session_callbacks_set_on_frame_recv_callback(on, Safe<on_frame>::call);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(on, Safe<on_data>::call);
    nghttp2_session_callbacks_set_send_data_callback(on, Safe<pour>::call);
    nghttp2_session_callbacks_set_on_frame_send_callback(on, Safe<on_sent>::call);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(on, Safe<on_unsent>::call);
    nghttp2_session_callbacks_set_on_stream_close_callback(on, Safe<on_close>::call);
    nghttp2_option_set_no_auto_window_update(option, 1);
    if (nghttp2_option_set_stream_reset_rate_limit)
        nghttp2_option_set_stream_reset_rate_limit(option, RESETS, RESETS_A_SECOND);
    const int failed = nghttp2_session_server_new2(&session_, on, this, option);
    nghttp2_session_callbacks_del(on);
    nghttp2_option_del(option);
    if (failed) throw std::bad_alloc();
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, most_streams},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MOST_METADATA}};
    if (nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings)) ||
        nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)) {
        nghttp2_session_del(session_);
        throw std::bad_alloc();
    }
}

void Session::feed(const uint8_t* data, size_t size) {
    const ssize_t taken = nghttp2_session_mem_recv(session_, data, size);
    if (taken < 0) throw std::runtime_error(nghttp2_strerror(static_cast<int>(taken)));
}

std::string_view Session::drain() {
    going_.clear();
    const uint8_t* data;
    ssize_t n = 0;
    while (going_.size() < PIECE && (n = nghttp2_session_mem_send(session_, &data)) > 0)
        going_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(n));
    if (n < 0) throw std::runtime_error(nghttp2_strerror(static_cast<int>(n)));
    return going_;
}

void Session::ping() {
    ++pings_;
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}

void Session::go_away() {
    leaving_ = true;
    nghttp2_submit_shutdown_notice(session_);
    ping();
}

void Session::pong() {
    if (pings_) --pings_;
    // Answers come in the order of the questions: the last is that to the notice.
    if (pings_ || !leaving_ || left_) return;
    left_ = true;
    // Whoever answered has read the notice before: what it sent until then is let in.
    const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
}

void Session::sweep() {
    std::vector<Stream*> still;
    for (const auto& [_, stream] : streams_) {
        const bool untaken = stream->finished || stream->sent < stream->out.size();
        if ((untaken || stream->silent()) && !stream->moved) still.push_back(stream.get());
        stream->moved = false;
    }
    for (Stream* stream : still)
        if (!stream->finished && stream->silent()) refuse(*stream, DEADLINE_EXCEEDED, "the request does not come");
        else nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
}

void Session::head(int32_t id, const Pairs& metadata) {
    Stream* stream = find(id);
    if (!stream || stream->begun || stream->finished) return;
    stream->begun = true;
    const nghttp2_data_provider provider{{.ptr = stream}, Safe<give>::call};
    respond(id, pairs(metadata, true), &provider);
}

void Session::reply(int32_t id, const Pairs& metadata, std::string_view message, Pairs trailers) {
    if (waiting_ + message.size() > most_kept_)
        return finish(id, {{"grpc-status", std::to_string(RESOURCE_EXHAUSTED)},
                           {"grpc-message", "the connection does not take the replies that it has"}});
    head(id, metadata);
    send(id, message);
    finish(id, std::move(trailers));
}

size_t Session::send(int32_t id, std::string_view message) {
    Stream* stream = find(id);
    if (!stream || stream->finished) return 0;
    append(stream->out, message);
    waiting_ += PREFIX + message.size();
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
        respond(id, pairs(stream->trailers, true), nullptr);
    }
}

void Session::respond(int32_t id, const std::vector<nghttp2_nv>& all, const nghttp2_data_provider* provider) {
    if (nghttp2_submit_response(session_, id, all.data(), all.size(), provider))
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
}

void Session::read(int32_t id, size_t bytes) {
    Stream* stream = find(id);
    if (!stream) return;
    stream->unread -= std::min(bytes + PER_MESSAGE, stream->unread);
    count(*stream);
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
    if (stream->metadata_bytes > MOST_METADATA) return 0;  // its call is refused once they end
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
    if (of(self).kept_ + size > of(self).most_kept_) {
        of(self).refuse(*stream, RESOURCE_EXHAUSTED, "the connection has too many requests that are not whole");
        return 0;
    }
    stream->moved = true;
    stream->in.append(reinterpret_cast<const char*>(data), size);
    // A caller who sends faster than is read waits; the rest of a message is always let in.
    if (stream->unread < STREAM_WINDOW) nghttp2_session_consume_stream(session, id, size);
    else stream->held += size;
    of(self).came(*stream);
    of(self).count(*stream);
    return 0;
}

int Session::on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    Stream* stream = of(self).find(frame->hd.stream_id);
    const bool last = stream && stream->finished && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    // All is said; what the caller would still send is not wanted (RFC 9113, 8.1).
    if (last && !stream->ended) nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
    return 0;
}

// A head or trailers that cannot be sent, for their size: the call ends without.
int Session::on_unsent(nghttp2_session* session, const nghttp2_frame* frame, int, void* self) {
    if (frame->hd.type != NGHTTP2_HEADERS || !of(self).find(frame->hd.stream_id)) return 0;
    return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
}

int Session::on_close(nghttp2_session*, int32_t id, uint32_t, void* self) {
    Stream* stream = of(self).find(id);
    if (!stream) return 0;
    if (stream->finished) of(self).told_.room(*stream);
    else of(self).told_.reset(*stream);
    of(self).kept_ -= stream->kept;
    of(self).waiting_ -= stream->out.size() - stream->sent;
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
        if (nghttp2_submit_trailer(session, id, all.data(), all.size())) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return static_cast<ssize_t>(size);
}

int Session::pour(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size, nghttp2_data_source* source,
                  void* self) {
    auto& stream = *static_cast<Stream*>(source->ptr);
    of(self).going_.append(reinterpret_cast<const char*>(head), FRAME_HEAD).append(stream.out, stream.sent, size);
    stream.sent += size;
    stream.moved = true;
    of(self).waiting_ -= size;
    if (stream.sent < stream.out.size()) return 0;
    stream.out.clear();
    stream.sent = 0;
    if (!stream.finished) of(self).told_.room(stream);
    return 0;
}

void Session::opened(Stream& stream) {
    stream.unary = unary_.count(stream.path);
    if (stream.content.rfind("application/grpc", 0) && stream.metadata_bytes <= MOST_METADATA) {
        stream.finished = true;
        respond(stream.id, {pair(":status", "415")}, nullptr);
    } else if (stream.metadata_bytes > MOST_METADATA) {
        finish(stream.id, {{"grpc-status", std::to_string(RESOURCE_EXHAUSTED)},
                           {"grpc-message", "metadata of " + std::to_string(stream.metadata_bytes) +
                                                " bytes came; the limit is " + std::to_string(MOST_METADATA)}});
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
            if (stream.in.size() - at > PREFIX + size) return refuse(stream, INTERNAL, ONE_MESSAGE);
            if (2 * stream.in.size() > stream.in.capacity())
                stream.in.reserve(std::min(at + PREFIX + size, AHEAD * stream.in.size()));
            break;
        }
        stream.heard = true;
        stream.unread += size + PER_MESSAGE;
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
        return refuse(stream, INTERNAL, ONE_MESSAGE);
    told_.call(stream, std::string_view(stream.in).substr(PREFIX), stream.in[0]);
    std::string().swap(stream.in);
    count(stream);
}

void Session::count(Stream& stream) {
    const size_t now = stream.in.size() + stream.unread;
    kept_ += now - stream.kept;
    stream.kept = now;
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
    count(stream);
    if (!stream.unary) told_.reset(stream);
}
