#include "base/utf8.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(Utf8, TextsOfAllLengthsOfCharactersStayAsTheyAre) {
  for (const char* text : {"", "plain",
                           "B\xc3\xbc"
                           "cher",
                           "\xe2\x82\xac", "\xf0\x9f\x8e\x89", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
    EXPECT_EQ(ValidUtf8(text), text);
  }
}

TEST(Utf8, BytesThatBelongToNoCharacterBecomeQuestionMarks) {
  const std::pair<std::string, std::string> cases[] = {
      {"a\x80z", "a?z"},             // goes on without a beginning
      {"a\xc3", "a?"},               // ends within a character
      {"\xc3z", "?z"},               // begins anew within one
      {"\xc0\xaf", "??"},            // spelled too long
      {"\xe0\x80\xaf", "???"},       // the same, in three bytes
      {"\xed\xa0\x80", "???"},       // a surrogate
      {"\xf4\x90\x80\x80", "????"},  // beyond the last character
      {"\xff\xfe", "??"},
  };
  for (const auto& [text, valid] : cases) {
    EXPECT_FALSE(IsValidUtf8(text)) << valid;
    EXPECT_EQ(ValidUtf8(text), valid);
    EXPECT_TRUE(IsValidUtf8(valid));
  }
}

TEST(Utf8, ALongTextIsCutBetweenCharacters) {
  EXPECT_EQ(ValidUtf8("ab\xe2\x82\xac", 5), "ab\xe2\x82\xac");
  EXPECT_EQ(ValidUtf8("ab\xe2\x82\xac", 4), "ab");
  EXPECT_EQ(ValidUtf8("abc", 2), "ab");
  EXPECT_EQ(ValidUtf8("\xff\xff\xff", 2), "??");
  EXPECT_EQ(ValidUtf8("abc", 0), "");
}

TEST(Utf8, WhatATerminalObeysIsNotPrinted) {
  EXPECT_EQ(PrintableUtf8("a\x1b[2Jb\n\x7f"), "a?[2Jb??");
  EXPECT_EQ(PrintableUtf8("\xc2\x9b"
                          "2J"),
            "?2J")
      << "the same escape as one character";
  EXPECT_EQ(PrintableUtf8("B\xc3\xbc"
                          "cher \xe2\x82\xac"),
            "B\xc3\xbc"
            "cher \xe2\x82\xac");
}

}  // namespace
}  // namespace causeway
