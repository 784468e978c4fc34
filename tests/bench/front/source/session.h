// One HTTP/2 connection of a gRPC server: bytes in, events out; replies in, bytes out. Framing is nghttp2's.
// Knows no socket, no thread, no loop; of Python only that events become its objects (`Told`).
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "table.h"

using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr size_t PREFIX = 5, MOST_METADATA = 16 * 1024;
constexpr uint32_t STREAM_WINDOW = 1 << 20, CONNECTION_WINDOW = 1 << 26;

struct Stream {
    int32_t id = 0;
    bool unary = false, begun = false, ended = false, finished = false;
    size_t metadata_bytes = 0, sent = 0;
    size_t unread = 0, held = 0;  // of a stream: told and not read yet, and what the caller may not replace till then
    std::string path, timeout, encoding;
    Pairs metadata, trailers;
    std::string in, out;
};

// What a connection tells its owner, in the order it happens.
struct Told {
    virtual ~Told() = default;
    virtual void call(const Stream&, std::string_view message) = 0;  // a whole unary request
    virtual void begin(const Stream&) = 0;
    virtual void message(const Stream&, std::string_view message) = 0;
    virtual void end(const Stream&) = 0;    // the caller sends no more
    virtual void reset(const Stream&) = 0;  // the caller is gone; nothing can be said to it
    virtual void room(const Stream&) = 0;   // all that was to be sent is on its way
};

inline std::string prefixed(std::string_view message) {
    const auto n = static_cast<uint32_t>(message.size());
    const char head[PREFIX] = {0, char(n >> 24), char(n >> 16), char(n >> 8), char(n)};
    return std::string(head, PREFIX).append(message);
}

class Session {
public:
    Session(Told& told, const std::unordered_set<std::string>& unary, Table* table, size_t most_message);
    ~Session() { nghttp2_session_del(session_); }
    Session(const Session&) = delete;

    void feed(const uint8_t* data, size_t size);  // throws when the peer does not speak HTTP/2
    std::string drain();                          // what is to be written to the peer now
    bool over() const { return !nghttp2_session_want_read(session_) && !nghttp2_session_want_write(session_); }
    void go_away() { nghttp2_submit_shutdown_notice(session_); }
    void refuse_new() {
        const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
        nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
    }

    // A stream that is gone takes these without a word: its caller has left.
    void head(int32_t id, const Pairs& metadata);
    size_t send(int32_t id, std::string_view message);  // bytes that wait for the peer
    void finish(int32_t id, Pairs trailers);
    void cancel(int32_t id) { nghttp2_submit_rst_stream(session_, 0, id, NGHTTP2_CANCEL); }
    void read(int32_t id, size_t bytes);
    size_t streams() const { return streams_.size(); }

private:
    static Session& of(void* self) { return *static_cast<Session*>(self); }
    static int on_begin(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t, const uint8_t*, size_t,
                         uint8_t, void*);
    static int on_frame(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_data(nghttp2_session*, uint8_t, int32_t, const uint8_t*, size_t, void*);
    static int on_sent(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_close(nghttp2_session*, int32_t, uint32_t, void*);
    static ssize_t give(nghttp2_session*, int32_t, uint8_t*, size_t, uint32_t*, nghttp2_data_source*, void*);

    Stream* find(int32_t id);
    void opened(Stream&);
    void complete(Stream&);
    void take_messages(Stream&);
    bool known(Stream&);
    void refuse(Stream&, int status, const char* why);
    void resume(const Stream& stream) { nghttp2_session_resume_data(session_, stream.id); }

    Told& told_;
    const std::unordered_set<std::string>& unary_;
    Table* table_;
    size_t most_message_;
    nghttp2_session* session_ = nullptr;
    std::unordered_map<int32_t, std::unique_ptr<Stream>> streams_;
};

// The request as a table knows it: method, every header that might matter, and what was sent.
std::string key_of(const Stream& stream, std::string_view data);
