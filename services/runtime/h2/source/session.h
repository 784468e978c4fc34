// One HTTP/2 connection of a gRPC server: bytes in, events out; replies in, bytes out. Framing is nghttp2's.
// Knows no socket, no thread, no clock and no method. Of Python it knows nothing: `Told` does.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nghttp2.h"

using Pairs = std::vector<std::pair<std::string, std::string>>;
using Paths = std::unordered_set<std::string>;

struct Stream {
    int32_t id = 0;
    // begun: the reply; ended: the request; finished: all of the reply is known
    bool unary = false, begun = false, ended = false, finished = false;
    std::string path, timeout, encoding, content;
    Pairs metadata, trailers;
    size_t metadata_bytes = 0;
    std::string in, out;  // what came and is no whole message yet; what waits for the peer from `sent` on
    size_t sent = 0;
    size_t unread = 0, held = 0;  // bytes of messages told and not read; bytes that may not be replaced until then
    size_t kept = 0;              // of the connection's, as it was last counted
    bool heard = false, moved = true;  // a message was told; something went either way since the last sweep

    bool silent() const { return !ended && !heard; }
};

// What a connection tells its owner, in the order it happens. `packed`: the message is in the stream's encoding.
struct Told {
    virtual ~Told() = default;
    virtual void call(const Stream&, std::string_view message, bool packed) = 0;  // a whole unary request
    virtual void begin(const Stream&) = 0;
    virtual void message(const Stream&, std::string_view message, bool packed) = 0;
    virtual void end(const Stream&) = 0;    // the caller sends no more
    virtual void reset(const Stream&) = 0;  // the call is over, and not by us
    virtual void room(const Stream&) = 0;   // all that was to be sent is on its way
};

class Session {
public:
    // `unary`: paths whose requests are told when they are whole. Outlived by both references.
    Session(Told& told, const Paths& unary, size_t most_message, uint32_t most_streams);
    ~Session() { nghttp2_session_del(session_); }
    Session(const Session&) = delete;

    void feed(const uint8_t* data, size_t size);  // throws when the peer does not speak HTTP/2
    std::string_view drain();                     // what is to be written next, a piece of it; gone with the next
    void sweep();                                 // ends what waits for the peer and has not moved since the last one
    bool over() const { return !nghttp2_session_want_read(session_) && !nghttp2_session_want_write(session_); }

    void ping();     // `unanswered` until the peer says so
    void go_away();  // asks for no more calls, and refuses them once the peer has heard of it
    bool unanswered() const { return pings_; }

    // A stream that is gone takes all of these without a word: its caller has left.
    void head(int32_t id, const Pairs& metadata);
    size_t send(int32_t id, std::string_view message);  // bytes that wait for the peer
    void finish(int32_t id, Pairs trailers);
    void reply(int32_t id, const Pairs& metadata, std::string_view message, Pairs trailers);
    void read(int32_t id, size_t bytes);

private:
    static Session& of(void* self) { return *static_cast<Session*>(self); }
    static int on_begin(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t, const uint8_t*, size_t,
                         uint8_t, void*);
    static int on_frame(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_data(nghttp2_session*, uint8_t, int32_t, const uint8_t*, size_t, void*);
    static int on_sent(nghttp2_session*, const nghttp2_frame*, void*);
    static int on_unsent(nghttp2_session*, const nghttp2_frame*, int, void*);
    static int on_close(nghttp2_session*, int32_t, uint32_t, void*);
    static int pour(nghttp2_session*, nghttp2_frame*, const uint8_t*, size_t, nghttp2_data_source*, void*);
    static ssize_t give(nghttp2_session*, int32_t, uint8_t*, size_t, uint32_t*, nghttp2_data_source*, void*);

    Stream* find(int32_t id);
    void pong();
    void respond(int32_t id, const std::vector<nghttp2_nv>& all, const nghttp2_data_provider* provider);
    void count(Stream&);
    void opened(Stream&);
    void came(Stream&);
    void complete(Stream&);
    void refuse(Stream&, int status, const std::string& why);
    bool too_large(Stream&, size_t size);

    Told& told_;
    const Paths& unary_;
    size_t most_message_, most_kept_;
    size_t kept_ = 0, waiting_ = 0;  // bytes of all streams: that came and are not taken; that the peer does not take
    nghttp2_session* session_ = nullptr;
    std::unordered_map<int32_t, std::unique_ptr<Stream>> streams_;
    std::string going_;
    size_t pings_ = 0;  // that the peer owes an answer to
    bool leaving_ = false, left_ = false;
};
