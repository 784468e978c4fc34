// Answers by the very bytes of their requests, least recently used within a bound. Knows no HTTP and no Python.
//
// A request is found by comparing all of it, so no hash decides whose answer somebody gets.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

inline double now_s() {
    using namespace std::chrono;
    return duration<double>(system_clock::now().time_since_epoch()).count();
}

struct Answer {
    std::string key, reply;  // the reply as DATA: prefix and message
    double stored_at, expires_at;  // unix seconds
    size_t size() const { return key.size() + reply.size() + 256; }
};

class Table {
public:
    explicit Table(size_t limit) : limit_(limit) {}

    const Answer* get(std::string_view key) {
        auto found = places_.find(key);
        if (found == places_.end()) return nullptr;
        if (found->second->expires_at <= now_s()) {
            forget(found->second);
            return nullptr;
        }
        kept_.splice(kept_.begin(), kept_, found->second);
        hits++;
        return &*found->second;
    }

    void put(Answer answer) {
        auto found = places_.find(answer.key);
        if (found != places_.end()) forget(found->second);
        if (answer.size() > limit_) return;
        bytes += answer.size();
        kept_.push_front(std::move(answer));
        places_.emplace(kept_.front().key, kept_.begin());
        while (bytes > limit_) forget(std::prev(kept_.end()));
    }

    void clear() {
        places_.clear();
        kept_.clear();
        bytes = 0;
    }

    size_t bytes = 0, hits = 0;

private:
    using Place = std::list<Answer>::iterator;

    void forget(Place place) {
        bytes -= place->size();
        places_.erase(place->key);
        kept_.erase(place);
    }

    size_t limit_;
    std::list<Answer> kept_;
    std::unordered_map<std::string_view, Place> places_;  // keys are those of `kept_`
};
