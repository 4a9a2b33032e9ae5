package io.github.apogeemq.interop;

import java.util.UUID;

/** Names that no other test and no earlier run has used. */
final class Names {
    private Names() {
    }

    static String unique(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 13);
    }
}
