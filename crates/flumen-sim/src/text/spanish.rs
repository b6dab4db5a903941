//! Spanish.

use super::Lexicon;

pub(super) const LEXICON: Lexicon = Lexicon {
    gap: " ",
    sentences: &[
        "~S ~v ~t.",
        "~P, ~s ~v.",
        "~P, ~s ~v ~t.",
        "~S ~v, mientras ~s ~v.",
        "Nadie pregunta por qué ~s ~v; basta con saber que ~s ~v.",
        "«~q», dice ~w, y ~s ~v.",
        "¿Sabías que ~s ~v?",
        "¡Mira cómo ~s ~v ~t!",
        "Dentro de unos ~d minutos, ~s ~v.",
    ],
    lists: &[
        (
            's',
            &[
                "el río",
                "la farera",
                "un barquito de papel",
                "el tren de la noche",
                "el viejo reloj del puerto",
                "la panadera de la esquina",
                "una carta sin sello",
                "la marea",
                "el relojero",
                "el viento del mar",
                "la niña del paraguas rojo",
                "el gato del jefe de estación",
                "el puente nuevo",
                "un jardinero paciente",
            ],
        ),
        (
            'v',
            &[
                "lleva la luz de la mañana hasta el puerto",
                "espera a que suba el agua",
                "anota cada palabra antes de que desaparezca",
                "se abre camino por las calles estrechas",
                "cuenta la historia desde el principio",
                "cruza el valle sin hacer ruido",
                "gira despacio hacia el mar abierto",
                "recoge lo que dejó la tormenta",
                "recuerda los nombres de todas las islas",
                "trae noticias de las montañas",
                "sigue el olor del pan recién hecho",
                "se queda un poco más de lo previsto",
            ],
        ),
        (
            't',
            &[
                "sin ninguna prisa",
                "palabra por palabra",
                "como si nadie mirara",
                "antes de que vuelva la niebla",
                "hasta que se encienden los faroles",
                "con mucho cuidado",
                "justo a tiempo",
                "sin mirar atrás",
            ],
        ),
        (
            'p',
            &[
                "al amanecer",
                "mucho antes del primer transbordador",
                "cuando por fin deja de llover",
                "al otro lado de la bahía",
                "algunas tardes de otoño",
                "unos pasos más abajo",
                "de vez en cuando",
            ],
        ),
        (
            'q',
            &[
                "A un río no se le mete prisa",
                "Siempre llegará otro barco",
                "Anoche conté ~d",
                "Lo bueno viene en trozos pequeños",
                "El mar todo lo devuelve",
            ],
        ),
        ('w', &["el barquero", "mi abuela", "la capitana", "Inés", "el señor Muñoz", "la maestra"]),
        (
            'h',
            &[
                "las horas tranquilas",
                "donde nace el río",
                "breve historia de la espera",
                "después de la tormenta",
                "notas desde el puerto",
                "el camino más largo",
            ],
        ),
        (
            'k',
            &[
                "paciencia",
                "la corriente",
                "pan recién hecho",
                "un buen farol",
                "el silencio",
                "una cuerda más",
                "curiosidad",
            ],
        ),
        (
            'i',
            &[
                "Conviene tener en cuenta lo siguiente:",
                "Esto es lo que se llevaría ~w:",
                "En resumen, se trata de esto:",
            ],
        ),
        ('c', &["cosa", "lugar", "para qué", "cantidad", "minutos"]),
    ],
};
