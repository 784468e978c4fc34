// session.h's work: nghttp2's callbacks, and gRPC's framing of messages on top.
#include "session.h"

#include <cstdio>
#include <random>

namespace {

using Name = std::string_view;

// Say nothing of what the answer is; everything else is part of a request's key.
const std::unordered_set<Name> IDLE = {"user-agent", "x-request-id", "traceparent", "tracestate"};
// Are of HTTP or gRPC itself: no caller's metadata.
const std::unordered_set<Name> RESERVED = {"te", "content-type", "grpc-accept-encoding", "accept-encoding"};
const Name CONTROL = "cache-control";

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

// The caller's own if it is sane, else a fresh one of 128 bits.
std::string request_id(const Stream& stream) {
    const auto odd = [](char c) { return c < 32 || c > 126; };
    for (const auto& [name, value] : stream.metadata)
        if (name == "x-request-id" && !value.empty() && value.size() <= 128 &&
            std::none_of(value.begin(), value.end(), odd))
            return value;
    static std::mt19937_64 draw{std::random_device{}()};
    char made[33];
    std::snprintf(made, sizeof made, "%016lx%016lx", draw(), draw());
    return made;
}

size_t length_of(const std::string& in, size_t at) {
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(in[at + i])); };
    return byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
}

}  // namespace

std::string key_of(const Stream& stream, std::string_view data) {
    std::string key = stream.path;
    for (const auto& [name, value] : stream.metadata)
        if (!IDLE.count(name)) key.append(1, '\0').append(name).append(1, '\1').append(value);
    return key.append(2, '\0').append(data);
}

Session::Session(Told& told, const std::unordered_set<std::string>& unary, Table* table, size_t most_message)
    : told_(told), unary_(unary), table_(table), most_message_(most_message) {
    nghttp2_session_callbacks* on;
    nghttp2_option* option;
    nghttp2_session_callbacks_new(&on);
    nghttp2_option_new(&option);
    nghttp2_session_callbacks_set_on_begin_headers_callback(on, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(on, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(on, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(on, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(on, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(on, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
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

std::string Session::drain() {
    std::string all;
    const uint8_t* data;
    for (ssize_t n; (n = nghttp2_session_mem_send(session_, &data)) > 0;)
        all.append(reinterpret_cast<const char*>(data), static_cast<size_t>(n));
    return all;
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
    stream->out.append(prefixed(message));
    resume(*stream);
    return stream->out.size() - stream->sent;
}

void Session::finish(int32_t id, Pairs trailers) {
    Stream* stream = find(id);
    if (!stream || stream->finished) return;
    stream->finished = true;
    if (!stream->begun) {
        const auto all = pairs(trailers, true);
        nghttp2_submit_response(session_, id, all.data(), all.size(), nullptr);
        return;
    }
    stream->trailers = std::move(trailers);
    resume(*stream);
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

int Session::on_begin(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    auto& made = of(self).streams_[frame->hd.stream_id] = std::make_unique<Stream>();
    made->id = frame->hd.stream_id;
    nghttp2_session_set_stream_user_data(session, made->id, made.get());
    return 0;
}

int Session::on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* self) {
    Stream* stream = of(self).find(frame->hd.stream_id);
    if (!stream) return 0;
    const Name key(reinterpret_cast<const char*>(name), name_size);
    const Name text(reinterpret_cast<const char*>(value), value_size);
    stream->metadata_bytes += name_size + value_size + 32;
    if (stream->metadata_bytes > MOST_METADATA) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (key == ":path") stream->path = text;
    else if (key == "grpc-timeout") stream->timeout = text;
    else if (key == "grpc-encoding") stream->encoding = text;
    else if (key[0] != ':' && !RESERVED.count(key)) stream->metadata.emplace_back(key, text);
    return 0;
}

int Session::on_frame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    Stream* stream = of(self).find(frame->hd.stream_id);
    if (!stream) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) of(self).opened(*stream);
    const bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) of(self).complete(*stream);
    return 0;
}

int Session::on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* self) {
    nghttp2_session_consume_connection(session, size);
    Stream* stream = of(self).find(id);
    if (!stream || stream->finished) return 0;
    stream->in.append(reinterpret_cast<const char*>(data), size);
    if (stream->in.size() >= PREFIX && length_of(stream->in, 0) > of(self).most_message_) {
        of(self).refuse(*stream, 8, "the message is over the limit of this server");
    } else {
        // A caller who sends faster than is read waits; the rest of a message is always let in.
        if (stream->unread < STREAM_WINDOW) nghttp2_session_consume_stream(session, id, size);
        else stream->held += size;
        if (!stream->unary) of(self).take_messages(*stream);
    }
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
    if (!stream->finished) of(self).told_.reset(*stream);
    else of(self).told_.room(*stream);
    of(self).streams_.erase(id);
    return 0;
}

ssize_t Session::give(nghttp2_session* session, int32_t id, uint8_t* to, size_t most, uint32_t* flags,
                      nghttp2_data_source* source, void* self) {
    auto& stream = *static_cast<Stream*>(source->ptr);
    const size_t size = std::min(most, stream.out.size() - stream.sent);
    std::memcpy(to, stream.out.data() + stream.sent, size);
    stream.sent += size;
    if (stream.sent < stream.out.size()) return static_cast<ssize_t>(size);
    stream.out.clear();
    stream.sent = 0;
    if (stream.finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto all = pairs(stream.trailers, false);
        nghttp2_submit_trailer(session, id, all.data(), all.size());
    } else if (!size) {
        return NGHTTP2_ERR_DEFERRED;
    } else {
        of(self).told_.room(stream);
    }
    return static_cast<ssize_t>(size);
}

void Session::opened(Stream& stream) {
    stream.unary = unary_.count(stream.path);
    if (!stream.encoding.empty() && stream.encoding != "identity") {
        finish(stream.id, {{"grpc-status", "12"},
                           {"grpc-message", "compressed messages are not read here; send identity"},
                           {"grpc-accept-encoding", "identity"}});
    } else if (!stream.unary) {
        told_.begin(stream);
    }
}

void Session::complete(Stream& stream) {
    stream.ended = true;
    if (stream.finished) return;
    if (!stream.unary) return told_.end(stream);
    const bool whole = stream.in.size() >= PREFIX && stream.in.size() == PREFIX + length_of(stream.in, 0);
    if (!whole || stream.in[0]) return refuse(stream, 13, "the request is not one whole, plain message");
    if (!known(stream)) told_.call(stream, std::string_view(stream.in).substr(PREFIX));
}

void Session::take_messages(Stream& stream) {
    size_t at = 0;
    while (stream.in.size() - at >= PREFIX) {
        const size_t size = length_of(stream.in, at);
        if (size > most_message_) return refuse(stream, 8, "the message is over the limit of this server");
        if (stream.in.size() - at < PREFIX + size) break;
        stream.unread += size;
        told_.message(stream, std::string_view(stream.in).substr(at + PREFIX, size));
        at += PREFIX + size;
    }
    stream.in.erase(0, at);
}

bool Session::known(Stream& stream) {
    if (!table_) return false;
    for (const auto& [name, value] : stream.metadata)
        if (name == CONTROL) return false;
    const Answer* answer = table_->get(key_of(stream, stream.in));
    if (!answer) return false;
    const auto age = static_cast<long>(std::max(0.0, now_s() - answer->stored_at));
    head(stream.id, {{"x-maas-cache", "hit-l1"}, {"x-maas-cache-age-s", std::to_string(age)}});
    stream.out = answer->reply;
    stream.finished = true;
    stream.trailers = {{"grpc-status", "0"}, {"x-request-id", request_id(stream)}};
    return true;
}

void Session::refuse(Stream& stream, int status, const char* why) {
    const bool begun = !stream.unary;
    finish(stream.id, {{"grpc-status", std::to_string(status)}, {"grpc-message", why}});
    stream.in.clear();
    if (begun) told_.reset(stream);
}
