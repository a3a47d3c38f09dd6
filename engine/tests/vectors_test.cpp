// What the standards say that algorithms make of given octets: known answers of RFCs and of NIST.
#include <string_view>

#include "build.hpp"
#include "harness.hpp"

using namespace groupvpn;
using namespace groupvpn::test;

namespace {

Octets hex(std::string_view text) {
  const auto digit = [](char letter) { return static_cast<std::uint8_t>(letter <= '9' ? letter - '0' : letter - 'a' + 10); };
  Octets octets;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) octets.push_back(static_cast<std::uint8_t>(digit(text[at]) << 4 | digit(text[at + 1])));
  return octets;
}

Octets text(std::string_view octets) { return {octets.begin(), octets.end()}; }

// Octets from `first` to `last`.
Octets range(std::uint8_t first, std::uint8_t last) {
  Octets octets;
  for (std::uint32_t octet = first; octet <= last; ++octet) octets.push_back(static_cast<std::uint8_t>(octet));
  return octets;
}

Octets joined(Octets left, const Octets& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Crypto& crypto() {
  static Crypto made;
  return made;
}

// One operation on octets of ours: `header` (SPI and sequence number, and with GMAC the IV), `plain`, and room for the ICV. Returns what stands
// behind the header when it is sealed, ICV included; opening must give `plain` back.
struct Work {
  Keys keys;
  Octets nonce, header, plain;
  std::optional<std::uint32_t> extended = std::nullopt;
};

Operation operation_on(const Work& work, const Schedule& schedule, std::uint8_t* esp) {
  Operation operation{};
  operation.schedule = &schedule;
  operation.cipher = work.keys.cipher;
  operation.integrity = work.keys.integrity;
  std::copy(work.nonce.begin(), work.nonce.end(), operation.iv.begin());
  operation.place(esp, static_cast<std::uint32_t>(work.header.size()), static_cast<std::uint32_t>(work.plain.size()));
  operation.extended = work.extended;
  return operation;
}

Octets sealed(const Work& work) {
  const Keys& keys = work.keys;
  Schedule schedule;
  crypto().prepare(schedule, keys.cipher, keys.encryption, keys.integrity, keys.authentication, keys.salt);
  constexpr std::size_t room = 4;  // which extended sequence numbers want (Operation)
  Octets octets = joined(joined(Octets(room), work.header), work.plain);
  const std::size_t icv = traits(keys.cipher).icv + traits(keys.integrity).icv;
  octets.resize(octets.size() + icv);
  std::uint8_t* esp = octets.data() + room;
  Operation operation = operation_on(work, schedule, esp);
  crypto().seal({&operation, 1});
  CHECK(operation.is_done);
  const Octets result(esp + work.header.size(), octets.data() + octets.size());
  operation = operation_on(work, schedule, esp);
  crypto().open({&operation, 1});
  CHECK(operation.is_done && operation.is_authentic);
  CHECK(std::equal(work.plain.begin(), work.plain.end(), esp + work.header.size()));
  return result;
}

// The same without the ICV.
Octets ciphertext(const Work& work) {
  Octets result = sealed(work);
  result.resize(work.plain.size());
  return result;
}

Keys keys_of(Cipher cipher, const Octets& key) {
  Keys keys(cipher, traits(cipher).is_combined() ? Integrity::none : Integrity::hmac_sha1_96);
  keys.encryption = key;
  return keys;
}

bool begins_with(const Octets& octets, const Octets& beginning) {
  return octets.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), octets.begin());
}

}  // namespace

TEST_CASE(macs_of_their_standards) {
  struct Vector {
    Integrity integrity;
    Octets key, data;
    std::string_view icv;
  };
  const Octets greeting = text("Hi There"), question = text("what do ya want for nothing?"), truncation = text("Test With Truncation");
  const Octets dd(50, 0xdd), cd(50, 0xcd);
  const auto jefe = [](std::size_t times, std::size_t size) {
    Octets key;
    for (std::size_t count = 0; count < times; ++count) key = joined(key, text("Jefe"));
    key.resize(size);
    return key;
  };
  const Vector vectors[] = {
      // RFC 2202 2 and 3, test cases 1, 2, 3 and 5. HMAC fills a short key up with zeros, so that of case 2 fits. The keys of the others are longer
      // than what RFC 2403 and RFC 2404 allow.
      {Integrity::hmac_md5_96, Octets(16, 0x0b), greeting, "9294727a3638bb1c13f48ef8"},
      {Integrity::hmac_md5_96, jefe(1, 16), question, "750c783e6ab0b503eaa86e31"},
      {Integrity::hmac_md5_96, Octets(16, 0xaa), dd, "56be34521d144c88dbb8c733"},
      {Integrity::hmac_md5_96, Octets(16, 0x0c), truncation, "56461ef2342edc00f9bab995"},
      {Integrity::hmac_sha1_96, Octets(20, 0x0b), greeting, "b617318655057264e28bc0b6"},
      {Integrity::hmac_sha1_96, jefe(1, 20), question, "effcdf6ae5eb2fa2d27416d5"},
      {Integrity::hmac_sha1_96, Octets(20, 0xaa), dd, "125d7342b9ac11cd91a39af4"},
      {Integrity::hmac_sha1_96, Octets(20, 0x0c), truncation, "4c1a03424b55e07fe7f27be1"},
      // RFC 4868 2.7.2, all. The key of AUTH512-4 has 64 octets, as it says there: 01 to 40, without the line that is printed before them.
      {Integrity::hmac_sha2_256_128, Octets(32, 0x0b), greeting, "198a607eb44bfbc69903a0f1cf2bbdc5"},
      {Integrity::hmac_sha2_256_128, jefe(8, 32), question, "167f928588c5cc2eef8e3093caa0e87c"},
      {Integrity::hmac_sha2_256_128, Octets(32, 0xaa), dd, "cdcb1220d1ecccea91e53aba3092f962"},
      {Integrity::hmac_sha2_256_128, range(1, 32), cd, "372efcf9b40b35c2115b1346903d2ef4"},
      {Integrity::hmac_sha2_384_192, Octets(48, 0x0b), greeting, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
      {Integrity::hmac_sha2_384_192, jefe(12, 48), question, "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"},
      {Integrity::hmac_sha2_384_192, Octets(48, 0xaa), dd, "809f439be00274321d4a538652164b53554a508184a0c316"},
      {Integrity::hmac_sha2_384_192, joined(range(1, 32), range(10, 25)), cd, "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c"},
      {Integrity::hmac_sha2_512_256, Octets(64, 0x0b), greeting, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
      {Integrity::hmac_sha2_512_256, jefe(16, 64), question, "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"},
      {Integrity::hmac_sha2_512_256, Octets(64, 0xaa), dd, "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"},
      {Integrity::hmac_sha2_512_256, range(1, 64), cd, "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108"},
  };
  for (const Vector& vector : vectors) {
    Keys keys(Cipher::null, vector.integrity);
    keys.authentication = vector.key;
    CHECK(sealed({keys, {}, {}, vector.data}) == joined(vector.data, hex(vector.icv)));
  }
}

TEST_CASE(cbc_of_rfc_3602) {
  struct Vector {
    std::string_view key, iv;
    Octets plain;
    std::string_view sealed;
  };
  const Vector vectors[] = {  // cases 1 to 4; the ESP packets of the others are in tests/vectors/esp.json
      {"06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41", text("Single block msg"), "e353779c1079aeb82708942dbe77181a"},
      {"c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58", range(0, 0x1f),
       "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
      {"6c3ea0477630ce21a2ce334aa746c2cd", "c782dc4c098c66cbd9cd27d825682c81", text("This is a 48-byte message (exactly 3 AES blocks)"),
       "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684"},
      {"56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9", range(0xa0, 0xdf),
       "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"},
  };
  for (const Vector& vector : vectors) {
    CHECK(ciphertext({keys_of(Cipher::aes_128_cbc, hex(vector.key)), hex(vector.iv), Octets(8), vector.plain}) == hex(vector.sealed));
  }
}

TEST_CASE(des_of_its_standards) {
  // FIPS 81, table C1; and SP 800-67 appendix B.1, whose three blocks are enciphered each by itself, as CBC does it without an IV.
  const Keys des = keys_of(Cipher::des_cbc, hex("0123456789abcdef"));
  CHECK(ciphertext({des, hex("1234567890abcdef"), Octets(8), text("Now is the time for all ")}) ==
        hex("e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"));
  const Keys triple = keys_of(Cipher::triple_des_cbc, hex("0123456789abcdef23456789abcdef01456789abcdef0123"));
  CHECK(ciphertext({triple, Octets(8), Octets(8), text("The qufc")}) == hex("a826fd8ce53b855f"));
  CHECK(ciphertext({triple, Octets(8), Octets(8), text("k brown ")}) == hex("cce21c8112256fe6"));
  CHECK(ciphertext({triple, Octets(8), Octets(8), text("fox jump")}) == hex("68d5c05dd9b6b900"));
}

TEST_CASE(counter_mode_of_rfc_3686) {
  struct Vector {
    Cipher cipher;
    std::string_view key, nonce_and_iv;
    Octets plain;
    std::string_view sealed;
  };
  const Octets block = text("Single block msg"), two = range(0, 0x1f), more = range(0, 0x23);
  const Vector vectors[] = {  // test vectors 1 to 9
      {Cipher::aes_128_ctr, "ae6852f8121067cc4bf7a5765577f39e", "000000300000000000000000", block,
       "e4095d4fb7a7b3792d6175a3261311b8"},
      {Cipher::aes_128_ctr, "7e24067817fae0d743d6ce1f32539163", "006cb6dbc0543b59da48d90b", two,
       "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
      {Cipher::aes_128_ctr, "7691be035e5020a8ac6e618529f9a0dc", "00e0017b27777f3f4a1786f0", more,
       "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f"},
      {Cipher::aes_192_ctr, "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515", "0000004836733c147d6d93cb", block,
       "4b55384fe259c9c84e7935a003cbe928"},
      {Cipher::aes_192_ctr, "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a", "0096b03b020c6eadc2cb500d", two,
       "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00"},
      {Cipher::aes_192_ctr, "02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe", "0007bdfd5cbd60278dcc0912", more,
       "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935"},
      {Cipher::aes_256_ctr, "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104", "00000060db5672c97aa8f0b2", block,
       "145ad01dbf824ec7560863dc71e3e0c0"},
      {Cipher::aes_256_ctr, "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884", "00faac24c1585ef15a43d875", two,
       "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"},
      {Cipher::aes_256_ctr, "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d", "001cc5b751a51d70a1c11148", more,
       "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8"},
  };
  for (const Vector& vector : vectors) {
    CHECK(ciphertext({keys_of(vector.cipher, hex(vector.key)), hex(vector.nonce_and_iv), Octets(16), vector.plain}) == hex(vector.sealed));
  }
}

TEST_CASE(gcm_of_its_specification) {
  // Test cases 2, 3, 8, 9, 14 and 15 of appendix B; 4, 10 and 16 are the same but for the authenticated octets. In ESP those are 8 or 12,
  // there none or 20, so the tags are for `gcm_in_esp`. Case 1, 7 and 13 have nothing to encrypt.
  const std::string_view key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", nonce = "cafebabefacedbaddecaf888";
  const std::string_view plain =
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
  struct Vector {
    Cipher cipher;
    std::string_view of_zeros, sealed;
  };
  const Vector vectors[] = {
      {Cipher::aes_128_gcm, "0388dace60b6a392f328c2b971b2fe78",
       "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"},
      {Cipher::aes_192_gcm, "98e7247c07f0fe411c267e4384b0f600",
       "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256"},
      {Cipher::aes_256_gcm, "cea7403d4d606b6e074ec5d3baf39d18",
       "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"},
  };
  for (const Vector& vector : vectors) {
    const std::size_t size = traits(vector.cipher).key;
    CHECK(ciphertext({keys_of(vector.cipher, Octets(size)), Octets(12), Octets(16), Octets(16)}) == hex(vector.of_zeros));
    CHECK(ciphertext({keys_of(vector.cipher, hex(key.substr(0, 2 * size))), hex(nonce), Octets(16), hex(plain)}) == hex(vector.sealed));
  }
}

TEST_CASE(gcm_in_esp) {
  struct Vector {
    std::string_view key, nonce, authenticated, plain, sealed, tag;
  };
  const Vector vectors[] = {  // draft-mcgrew-gcm-test-01 section 4, with sequence numbers of 32 bits and of 64; plaintext with padding
      {"4c80cdefbb5d10da906ac73c3613a634", "2e443b684956ed7e3b244cfe", "000043218765432100000000",
       "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b00"
       "0021000101020201",
       "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
       "61bc17d768fd9732",
       "459018148f6cbe722fd04796562dfdb4"},
      {"feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "0000a5f80000000a",
       "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
       "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1",
       "83b70d3aa8bc6ee4c309e9d85a41ad4a"},
      {"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "112233440102030405060708", "4a2cbfe300000002",
       "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
       "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e",
       "b335f4eecfdbf831824b4c4915956c96"},
      {"00000000000000000000000000000000", "000000000000000000000000", "0000000000000001",
       "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
       "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3",
       "f821d496eeb096e98ad2b69e4799c71d"},
      {"3de09874b388e6491988d0c3607eae1f", "57690e434e280000a2fca1a3", "42f67e3f1010101010101010",
       "4500003c99c300008001cb7c40679318010101010800085c020043006162636465666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
       "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a",
       "e0d731cc978ecafaeae88f00e80d6e48"},
      {"3de09874b388e6491988d0c3607eae1f", "57690e434e280000a2fca1a3", "42f67e3f1010101010101010",
       "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
       "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed",
       "369f071f35e034be95f112e4e7d05d35"},
      {"feffe9928665731c6d6a8f9467308308feffe9928665731c", "cafebabefacedbaddecaf888", "0000a5f80000000a",
       "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
       "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77",
       "95457b9652037f5318027b5b4cd7a636"},
      {"abbccddef00112233445566778899aab", "decaf888cafedebaceface74", "000001000000000000000001",
       "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95"
       "9b6266c04722b14923010101",
       "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c22"
       "6f2127b27db35724e7845d68",
       "651f57e65f354f75ff17015769623436"},
      {"abbccddef00112233445566778899aababbccddef00112233445566778899aab", "73616c74616e640169766563", "17405e67156f3126dd0db99b",
       "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
       "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e",
       "451626c2415771e3b7eebca614c89b35"},
      {"3de09874b388e6491988d0c3607eae1f", "57690e434e280000a2fca1a3", "42f67e3f1010101010101010",
       "45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b32"
       "5ae270c03899493915010101",
       "fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0740f742444747b5b39"
       "ab533163aad4550ee5160975",
       "cdb608c5769189609763b8e18caa81e2"},
      {"7d773d00c144c525ac619d18c84a3f47", "d966426743457e9182443bc6", "335467aeffffffff",
       "01020201",
       "437f866b",
       "cb3f699fe9b0822bac961c4504bef270"},
      {"abbccddef00112233445566778899aab", "decaf888cafedebaceface74", "000001000000000000000001",
       "746f016265016f72016e6f7401746f0162650001",
       "29c9fc69a197d038ccdd14e2ddfcaa0543332164",
       "412503524303ed3c6c5f283843af8c3e"},
      {"6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961", "7475726e333021696765746d", "796b6963ffffffffffffffff",
       "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
       "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9",
       "d0937ba2945f669368661a329fb4c053"},
  };
  for (const Vector& vector : vectors) {
    // SPI and sequence number; the upper half of an extended one stands between them, and does not travel.
    Octets header = hex(vector.authenticated);
    std::optional<std::uint32_t> extended;
    if (header.size() == 12) {
      extended = load32(&header[4]);
      header.erase(header.begin() + 4, header.begin() + 8);
    }
    header = joined(header, hex(vector.nonce.substr(8)));
    const Octets plain = hex(vector.plain), expected = joined(hex(vector.sealed), hex(vector.tag));
    for (const std::string_view icv : {"", "-8", "-12"}) {
      const Cipher cipher = cipher_named("aes-" + std::to_string(4 * vector.key.size()) + "-gcm" + std::string(icv));
      const Octets result = sealed({keys_of(cipher, hex(vector.key)), hex(vector.nonce), header, plain, extended});
      CHECK_EQUAL(result.size(), plain.size() + traits(cipher).icv);
      CHECK(begins_with(expected, result));
    }
  }
}

TEST_CASE(gmac_in_esp) {  // draft-mcgrew-gcm-test-01 section 8
  const Octets plain = hex("45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201");
  const Keys keys = keys_of(Cipher::aes_128_gmac, hex("4c80cdefbb5d10da906ac73c3613a634"));
  const Octets header = joined(hex("0000432100000007"), Octets(8));
  CHECK(sealed({keys, joined(hex("22433c64"), Octets(8)), header, plain}) == joined(plain, hex("f2a9a836e155106aa8dcd618e4099aaa")));
}
