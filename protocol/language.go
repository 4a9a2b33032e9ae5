package protocol

// Language is the peer's implementation language (LanguageCode).
type Language byte

// The codes of RocketMQ; an unknown name or number is OTHER.
const (
	LanguageJava   Language = 0
	LanguageCPP    Language = 1
	LanguageDotnet Language = 2
	LanguageOther  Language = 7
	LanguageGo     Language = 9
)

var languageNames = [...]string{"JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"}

// String returns RocketMQ's name of the language.
func (l Language) String() string {
	if int(l) < len(languageNames) {
		return languageNames[l]
	}
	return "OTHER"
}

// LanguageOf returns the language called name.
func LanguageOf(name []byte) Language {
	for i, n := range languageNames {
		if n == string(name) {
			return Language(i)
		}
	}
	return LanguageOther
}
